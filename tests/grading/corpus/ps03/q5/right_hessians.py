# Right: torch.func: gradient and whole Hessian of one sample, mapped over the batch, then the trace.
def score_matching(energy, y):
    points = y.detach().reshape(-1, y.shape[-1])
    one = lambda v: energy(v[None])[0]
    slope = torch.func.vmap(torch.func.grad(one))(points)
    hessian = torch.func.vmap(torch.func.hessian(one))(points)
    value = slope.square().sum(-1) / 2 - torch.diagonal(hessian, dim1=-2, dim2=-1).sum(-1)
    return value.reshape(y.shape[:-1])


def denoising(energy, y, noise, sigma):
    at = (y + sigma * noise).detach()
    score = torch.func.grad(lambda v: -energy(v).sum())(at)
    return 0.5 * (score + noise / sigma).square().sum(-1)

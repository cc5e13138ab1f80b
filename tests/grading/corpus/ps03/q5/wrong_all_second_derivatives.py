# Wrong: differentiates the sum of the gradient: all second derivatives, mixed ones too. Loses q5_a, q5_b, q5_c.
def score_matching(energy, y):
    y = y.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(energy(y).sum(), y, create_graph=True)
    curvature = torch.zeros_like(slope[..., 0])
    if slope.requires_grad:
        (row,) = torch.autograd.grad(slope.sum(), y, create_graph=True, materialize_grads=True)
        curvature = row.sum(-1)
    return slope.square().sum(-1) / 2 - curvature


def denoising(energy, y, noise, sigma):
    noisy = (y + sigma * noise).detach().requires_grad_()
    (slope,) = torch.autograd.grad(energy(noisy).sum(), noisy, create_graph=True)
    return (noise / sigma - slope).square().sum(-1) / 2

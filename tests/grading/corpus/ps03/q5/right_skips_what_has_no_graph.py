# Right: the rows of second derivatives only where the gradient has a graph; the denoising target by hand.
def score_matching(energy, y):
    leaf = y.detach().clone().requires_grad_()
    gradient = torch.autograd.grad(energy(leaf).sum(), leaf, create_graph=True)[0]
    small = 0.5 * gradient.pow(2).sum(dim=-1)
    if not gradient.requires_grad:
        return small
    trace = sum(
        torch.autograd.grad(part.sum(), leaf, create_graph=True, materialize_grads=True)[0][..., d]
        for d, part in enumerate(gradient.unbind(-1))
    )
    return small - trace


def denoising(energy, y, noise, sigma):
    leaf = (y + sigma * noise).detach().clone().requires_grad_()
    gradient = torch.autograd.grad(energy(leaf).sum(), leaf, create_graph=True)[0]
    return 0.5 * (gradient - noise / sigma).pow(2).sum(dim=-1)

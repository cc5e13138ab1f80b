# Right: one backward pass for each unit vector, v'Hv summed over them.
def score_matching(energy, y):
    leaf = y.detach().clone().requires_grad_(True)
    value = energy(leaf)
    g = torch.autograd.grad(value, leaf, torch.ones_like(value), create_graph=True)[0]
    trace = 0.0
    for unit in torch.eye(leaf.shape[-1], dtype=leaf.dtype):
        if not g.requires_grad:
            break
        hv = torch.autograd.grad((g * unit).sum(), leaf, create_graph=True, allow_unused=True)[0]
        if hv is not None:
            trace = trace + (hv * unit).sum(-1)
    return 0.5 * (g * g).sum(-1) - trace


def denoising(energy, y, noise, sigma):
    clean = y.detach()
    leaf = (clean + sigma * noise).requires_grad_(True)
    value = energy(leaf)
    g = torch.autograd.grad(value, leaf, torch.ones_like(value), create_graph=True)[0]
    way_home = (clean - leaf.detach()) / sigma**2
    return ((-g - way_home) ** 2).sum(-1) / 2

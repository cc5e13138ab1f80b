# Right: loops over samples, torch.autograd.functional.hessian with create_graph.
from torch.autograd.functional import hessian


def score_matching(energy, y):
    losses = []
    for sample in y.detach().reshape(-1, y.shape[-1]):
        v = sample.clone().requires_grad_()
        H = hessian(lambda u: energy(u), v, create_graph=True)
        (g,) = torch.autograd.grad(energy(v), v, create_graph=True)
        losses.append((g @ g) / 2 - H.trace())
    return torch.stack(losses).reshape(y.shape[:-1])


def denoising(energy, y, noise, sigma):
    losses = []
    size = y.shape[-1]
    for sample, xi in zip(y.reshape(-1, size), noise.reshape(-1, size)):
        v = (sample + sigma * xi).detach().clone().requires_grad_()
        (g,) = torch.autograd.grad(energy(v), v, create_graph=True)
        losses.append(((xi / sigma - g) ** 2).sum() / 2)
    return torch.stack(losses).reshape(y.shape[:-1])

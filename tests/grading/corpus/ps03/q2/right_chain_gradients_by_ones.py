# Right: gradients by a vector of ones instead of a sum; the energy through q's exponents, arithmetic with the mask.
def gradient_of(energy, y):
    leaf = y.detach().clone().requires_grad_(True)
    values = energy(leaf)
    (g,) = torch.autograd.grad(values, leaf, grad_outputs=torch.ones_like(values))
    return values.detach(), g


def langevin_step(energy, y, noise, step_size, beta=1.0):
    g = gradient_of(energy, y)[1]
    return torch.addcmul(y.detach(), g, torch.tensor(-step_size, dtype=y.dtype)) + noise * (2 * step_size / beta) ** 0.5


def mala_step(energy, y, noise, uniform, step_size, beta=1.0):
    E0, g0 = gradient_of(energy, y)
    z = langevin_step(energy, y, noise, step_size, beta)
    E1, g1 = gradient_of(energy, z)
    forward = ((z - y + step_size * g0) ** 2).sum(-1)
    backward = ((y - z + step_size * g1) ** 2).sum(-1)
    exponent = -beta * (E1 - E0 + (backward - forward) / (4 * step_size))
    a = torch.where(torch.isinf(E1), 0.0, exponent.clamp(max=0.0).exp())
    stay = (uniform >= a).to(y.dtype)[..., None]
    return stay * y.detach() + (1 - stay) * z, a

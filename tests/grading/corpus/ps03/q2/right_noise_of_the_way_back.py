# Right: the noise that would lead back, and half the difference of the squared lengths.
def langevin_step(energy, y, noise, step_size, beta=1.0):
    y = y.detach().clone().requires_grad_()
    energy_sum = energy(y).sum()
    (gradient,) = torch.autograd.grad(energy_sum, y)
    return (y - step_size * gradient + math.sqrt(2 * step_size / beta) * noise).detach()


def mala_step(energy, y, noise, uniform, step_size, beta=1.0):
    here, there = y.detach().clone().requires_grad_(), None
    E = energy(here)
    g = torch.autograd.grad(E.sum(), here)[0]
    there = langevin_step(energy, y, noise, step_size, beta).requires_grad_()
    E_new = energy(there)
    g_new = torch.autograd.grad(E_new.sum(), there)[0]
    noise_back = math.sqrt(step_size * beta / 2) * (g + g_new) - noise
    log_a = -beta * (E_new - E) + 0.5 * (noise**2 - noise_back**2).sum(dim=-1)
    a = torch.exp(torch.minimum(log_a, torch.zeros_like(log_a))).detach()
    a = torch.where(torch.isinf(E_new), torch.zeros_like(a), a)
    result = y.detach().clone()
    mask = uniform < a
    result[mask] = there.detach()[mask]
    return result, a

# Right: log q of both ways from torch.distributions, the coin in logarithms.
def slope(energy, y):
    y = y.detach().clone().requires_grad_()
    return torch.autograd.grad(energy(y).sum(), y)[0]


def langevin_step(energy, y, noise, step_size, beta=1.0):
    return y - step_size * slope(energy, y) + (2 * step_size / beta) ** 0.5 * noise


def mala_step(energy, y, noise, uniform, step_size, beta=1.0):
    width = (2 * step_size / beta) ** 0.5
    there = langevin_step(energy, y, noise, step_size, beta)

    def log_q(a, b):
        mean = a - step_size * slope(energy, a)
        return torch.distributions.Normal(mean, width, validate_args=False).log_prob(b).sum(-1)

    with torch.no_grad():
        rise = energy(there) - energy(y)
    log_a = (log_q(there, y) - log_q(y, there) - beta * rise).clamp(max=0.0)
    log_a = torch.where(rise == math.inf, -math.inf, log_a)
    accepted = uniform < log_a.exp()
    return torch.where(accepted[..., None], there, y), log_a.exp()

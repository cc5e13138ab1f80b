# Right: torch.func for value and gradient, one call for both ends.
def _look(energy, y):
    def total(v):
        values = energy(v)
        return values.sum(), values

    gradient, values = torch.func.grad(total, has_aux=True)(y)
    return values.detach(), gradient.detach()


def langevin_step(energy, y, noise, step_size, beta=1.0):
    return y - step_size * _look(energy, y)[1] + noise * math.sqrt(2 * step_size / beta)


def mala_step(energy, y, noise, uniform, step_size, beta=1.0):
    E, g = _look(energy, y)
    new = y - step_size * g + noise * math.sqrt(2 * step_size / beta)
    E_new, g_new = _look(energy, new)
    possible = torch.isfinite(E_new)
    E_new = torch.where(possible, E_new, E)
    way_back = ((y - new + step_size * g_new) ** 2).sum(-1) * beta / (4 * step_size)
    way_there = (noise**2).sum(-1) / 2
    log_a = way_there - way_back - beta * (E_new - E)
    a = torch.where(possible, torch.exp(log_a.clamp(max=0)), 0.0)
    return torch.where((uniform < a)[..., None], new, y), a

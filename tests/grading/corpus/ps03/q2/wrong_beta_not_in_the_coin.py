# Wrong: mala_step never uses beta: right from the bottom of a parabola, wrong elsewhere. Loses q2_a, q2_c, q2_d.
def langevin_step(energy, y, noise, step_size, beta=1.0):
    _, gradient = _both(energy, y)
    return y.detach() - step_size * gradient + math.sqrt(2 * step_size / beta) * noise


def mala_step(energy, y, noise, uniform, step_size, beta=1.0):
    value, _ = _both(energy, y)
    proposal = langevin_step(energy, y, noise, step_size)
    new_value, new_gradient = _both(energy, proposal)
    back = y - proposal + step_size * new_gradient
    log_q = noise.square().sum(-1) / 2 - 1 / (4 * step_size) * back.square().sum(-1)
    log_ratio = value - new_value + log_q
    acceptance = torch.where(new_value < math.inf, log_ratio.clamp(max=0).exp(), 0.0)
    accepted = (uniform < acceptance).unsqueeze(-1)
    return torch.where(accepted, proposal, y.detach()), acceptance


def _both(energy, y):
    y = y.detach().clone().requires_grad_()
    value = energy(y)
    (gradient,) = torch.autograd.grad(value.sum(), y)
    return value.detach(), gradient

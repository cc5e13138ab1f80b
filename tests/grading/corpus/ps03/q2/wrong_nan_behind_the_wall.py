# Wrong: a mask times the ratio: 0 times nan is nan where the gradient behind a wall is nan. Loses q2_d.
def langevin_step(energy, y, noise, step_size, beta=1.0):
    _, gradient = _both(energy, y)
    return y.detach() - step_size * gradient + math.sqrt(2 * step_size / beta) * noise


def mala_step(energy, y, noise, uniform, step_size, beta=1.0):
    value, _ = _both(energy, y)
    proposal = langevin_step(energy, y, noise, step_size, beta)
    new_value, new_gradient = _both(energy, proposal)
    back = y - proposal + step_size * new_gradient
    log_q = noise.square().sum(-1) / 2 - beta / (4 * step_size) * back.square().sum(-1)
    log_ratio = -beta * (new_value - value) + log_q
    acceptance = log_ratio.clamp(max=0).exp() * (new_value < math.inf)
    accepted = (uniform < acceptance).unsqueeze(-1)
    return torch.where(accepted, proposal, y.detach()), acceptance


def _both(energy, y):
    y = y.detach().clone().requires_grad_()
    value = energy(y)
    (gradient,) = torch.autograd.grad(value.sum(), y)
    return value.detach(), gradient

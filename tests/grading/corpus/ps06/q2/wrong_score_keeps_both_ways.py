# Wrong: autograd of E log q with z not held: the slope through the draws is added. Loses q2_a, q2_d.
def draw(mean, log_var, noise):
    return mean[..., None, :] + torch.exp(log_var / 2)[..., None, :] * noise


def bound(energy, y, mean, log_var, beta, noise):
    E = energy(y[..., None, :], draw(mean, log_var, noise))
    return E.mean(-1) + (mean**2 + log_var.exp() - log_var - 1).sum(-1) / 2 / beta


def score_gradient(energy, y, mean, log_var, noise):
    m = mean.detach().clone().requires_grad_()
    v = log_var.detach().clone().requires_grad_()
    z = draw(m, v, noise)
    E = energy(y[..., None, :], z)
    K = E.shape[-1]
    rare = E - (E.sum(-1, keepdim=True) - E) / (K - 1) if K > 1 else E
    away = (z.detach() - m[..., None, :]) ** 2 / v.exp()[..., None, :]
    log_q = -(away + v[..., None, :]).sum(-1) / 2
    return torch.autograd.grad((rare * log_q).mean(-1).sum(), (m, v))

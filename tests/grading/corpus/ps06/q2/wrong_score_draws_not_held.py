# Wrong: log q is differentiated along the draws, which move with m and s. Loses q2_a, q2_d.
def draw(mean, log_var, noise):
    return mean[..., None, :] + (log_var / 2).exp()[..., None, :] * noise


def _kl(mean, log_var):
    return (mean**2 + torch.expm1(log_var) - log_var).sum(-1) / 2


def bound(energy, y, mean, log_var, beta, noise):
    E = energy(y[..., None, :], draw(mean, log_var, noise))
    return E.mean(-1) + _kl(mean, log_var) / beta


def score_gradient(energy, y, mean, log_var, noise):
    with torch.enable_grad():
        m, v = mean.detach().requires_grad_(), log_var.detach().requires_grad_()
        z = draw(m, v, noise)
        E = energy(y[..., None, :], z).detach()
        K = E.shape[-1]
        a = E - (E.sum(-1, keepdim=True) - E) / max(K - 1, 1)
        log_q = -((z - m[..., None, :]) ** 2 / v.exp()[..., None, :] + v[..., None, :]).sum(-1) / 2
        return torch.autograd.grad((a * log_q).mean(-1).sum(), (m, v))

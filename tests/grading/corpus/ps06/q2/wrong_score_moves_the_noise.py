# Wrong: score_gradient squares the caller's noise in place. Loses q2_a, q2_d.
def draw(mean, log_var, noise):
    return mean[..., None, :] + (log_var / 2).exp()[..., None, :] * noise


def _kl(mean, log_var):
    return (mean**2 + torch.expm1(log_var) - log_var).sum(-1) / 2


def bound(energy, y, mean, log_var, beta, noise):
    E = energy(y[..., None, :], draw(mean, log_var, noise))
    return E.mean(-1) + _kl(mean, log_var) / beta


def score_gradient(energy, y, mean, log_var, noise):
    with torch.no_grad():
        E = energy(y[..., None, :], draw(mean, log_var, noise))
    K = E.shape[-1]
    b = (E.sum(-1, keepdim=True) - E) / max(K - 1, 1)
    a = (E - b)[..., None]
    s = (log_var / 2).exp()[..., None, :]
    first = (a * noise / s).mean(-2)
    noise.square_().sub_(1)
    return first, (a * noise / 2).mean(-2)

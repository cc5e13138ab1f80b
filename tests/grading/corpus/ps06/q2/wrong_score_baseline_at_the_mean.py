# Wrong: the baseline is the energy at m. Loses q2_a, q2_d.
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
    b = energy(y, mean)[..., None]
    a = (E - b)[..., None]
    s = (log_var / 2).exp()[..., None, :]
    return (a * noise / s).mean(-2), (a * (noise**2 - 1) / 2).mean(-2)

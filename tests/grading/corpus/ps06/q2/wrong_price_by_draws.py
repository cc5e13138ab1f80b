# Wrong: KL estimated from the same draws, not in closed form. Loses q2_a, q2_b, q2_c.
def draw(mean, log_var, noise):
    return mean[..., None, :] + (log_var / 2).exp()[..., None, :] * noise


def bound(energy, y, mean, log_var, beta, noise):
    z = draw(mean, log_var, noise)
    log_q = (-(noise**2) / 2 - log_var[..., None, :] / 2).sum(-1)
    log_p = (-(z**2) / 2).sum(-1)
    return (energy(y[..., None, :], z) + (log_q - log_p) / beta).mean(-1)


def score_gradient(energy, y, mean, log_var, noise):
    with torch.no_grad():
        E = energy(y[..., None, :], draw(mean, log_var, noise))
    K = E.shape[-1]
    b = (E.sum(-1, keepdim=True) - E) / max(K - 1, 1)
    a = (E - b)[..., None]
    s = (log_var / 2).exp()[..., None, :]
    return (a * noise / s).mean(-2), (a * (noise**2 - 1) / 2).mean(-2)

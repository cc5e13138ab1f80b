# Wrong: no baseline. Loses q2_a, q2_d.
def draw(mean, log_var, noise):
    return mean[..., None, :] + torch.exp(log_var / 2)[..., None, :] * noise


def code_cost(mean, log_var):
    return (mean**2 + log_var.exp() - log_var - 1).sum(-1) / 2


def bound(energy, y, mean, log_var, beta, noise):
    z = draw(mean, log_var, noise)
    E = energy(y[..., None, :], z)
    return E.mean(-1) + code_cost(mean, log_var) / beta


def score_gradient(energy, y, mean, log_var, noise):
    z = draw(mean, log_var, noise)
    E = energy(y[..., None, :], z).detach()
    b = 0.0
    rare = (E - b)[..., None]
    s = torch.exp(log_var / 2)[..., None, :]
    by_mean = (rare * noise / s).mean(-2)
    by_log_var = (rare * (noise**2 - 1) / 2).mean(-2)
    return by_mean, by_log_var

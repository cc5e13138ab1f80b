# Right: the energy of one draw, vmapped.
def draw(mean, log_var, noise):
    return mean[..., None, :] + (log_var / 2).exp()[..., None, :] * noise


def _kl(mean, log_var):
    return (mean**2 + torch.expm1(log_var) - log_var).sum(-1) / 2


def _energies(energy, y, z):
    return torch.func.vmap(energy, in_dims=(None, -2), out_dims=-1)(y, z)


def bound(energy, y, mean, log_var, beta, noise):
    return _energies(energy, y, draw(mean, log_var, noise)).mean(-1) + _kl(mean, log_var) / beta


def score_gradient(energy, y, mean, log_var, noise):
    z = draw(mean, log_var, noise).detach()
    E = _energies(energy, y, z).detach()
    K = E.shape[-1]
    others = torch.stack([(E.sum(-1) - E[..., k]) / max(K - 1, 1) for k in range(K)], -1)
    var = log_var.exp()[..., None, :]
    away = z - mean[..., None, :]
    weight = (E - others)[..., None] / K
    return (weight * away / var).sum(-2), (weight * (away**2 / var - 1) / 2).sum(-2)

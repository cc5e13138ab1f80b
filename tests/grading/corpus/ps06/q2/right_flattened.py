# Right: every pair of sample and draw is a row of its own.
def _kl(mean, log_var):
    return (mean**2 + torch.expm1(log_var) - log_var).sum(-1) / 2


def draw(mean, log_var, noise):
    s = torch.exp(0.5 * log_var)
    return torch.addcmul(mean.unsqueeze(-2), s.unsqueeze(-2), noise)


def _rows(energy, y, z):
    K = z.shape[-2]
    Y = y.unsqueeze(-2).expand(*y.shape[:-1], K, y.shape[-1])
    return energy(Y.reshape(-1, y.shape[-1]), z.reshape(-1, z.shape[-1])).reshape(z.shape[:-1])


def bound(energy, y, mean, log_var, beta, noise):
    E = _rows(energy, y, draw(mean, log_var, noise))
    return torch.mean(E, dim=-1) + information(mean, log_var) / beta


def score_gradient(energy, y, mean, log_var, noise):
    K = noise.shape[-2]
    E = _rows(energy, y, draw(mean, log_var, noise))
    if K > 1:
        E = (E - E.mean(-1, keepdim=True)) * K / (K - 1)
    s = torch.exp(0.5 * log_var)
    first = torch.einsum("...k,...kl->...l", E, noise) / K / s
    second = torch.einsum("...k,...kl->...l", E, noise.square() - 1) / (2 * K)
    return first, second

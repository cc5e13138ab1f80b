# Right: einsum, and a table of who is compared with whom.
def draw(mean, log_var, noise):
    return torch.einsum("...l,...kl->...kl", (log_var / 2).exp(), noise) + mean[..., None, :]


def bound(energy, y, mean, log_var, beta, noise):
    E = energy(y[..., None, :], draw(mean, log_var, noise))
    spring = mean.square().sum(-1) / 2
    size = (torch.expm1(log_var) - log_var).sum(-1) / 2
    return E.sum(-1) / E.shape[-1] + (spring + size) / beta


def score_gradient(energy, y, mean, log_var, noise):
    E = energy(y[..., None, :], draw(mean, log_var, noise)).detach()
    K = E.shape[-1]
    compare = torch.eye(K, dtype=E.dtype)
    if K > 1:
        compare = compare - (1 - compare) / (K - 1)
    unusual = E @ compare / K
    by_mean = torch.einsum("...k,...kl->...l", unusual, noise) * (-log_var / 2).exp()
    by_log_var = torch.einsum("...k,...kl->...l", unusual, noise * noise - 1) / 2
    return by_mean.detach(), by_log_var.detach()

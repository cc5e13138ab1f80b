# Right: the posterior along its own axes.
def importance_bound(energy, y, mean, log_var, beta, noise):
    s = torch.sqrt(log_var.exp())
    z = torch.einsum("...l,...kl->...kl", s, noise) + mean.unsqueeze(-2)
    price = (noise.pow(2) - z.pow(2)).sum(-1) / 2 + s.log().sum(-1, keepdim=True)
    cost = energy(y.unsqueeze(-2), z) - price / beta
    top = torch.logsumexp(-beta * cost, dim=-1)
    K = noise.shape[-2]
    second = torch.logsumexp(-2 * beta * cost, dim=-1)
    return (math.log(K) - top) / beta, torch.exp(2 * top - second)


def posterior(y, W, beta):
    size, axes = torch.linalg.eigh(torch.eye(W.shape[1], dtype=W.dtype) + 2 * beta * W.T @ W)
    C = axes @ torch.diag(1 / size) @ axes.T
    return 2 * beta * torch.einsum("lk,...k->...l", C, y @ W), C


def gap(y, W, beta, mean, log_var):
    M = torch.eye(W.shape[1], dtype=W.dtype) + 2 * beta * W.T @ W
    size, axes = torch.linalg.eigh(M)
    away = (mean - posterior(y, W, beta)[0]) @ axes
    square = (size * away**2).sum(-1)
    trace = torch.einsum("ii,...i->...", M, log_var.exp())
    return (trace + square - len(size) - size.log().sum() - log_var.sum(-1)) / (2 * beta)

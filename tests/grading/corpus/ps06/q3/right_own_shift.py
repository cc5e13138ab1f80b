# Right: the largest logarithm is taken out by hand; loops over draws.
def importance_bound(energy, y, mean, log_var, beta, noise):
    s = torch.exp(log_var / 2)
    logs = []
    for k in range(noise.shape[-2]):
        xi = noise[..., k, :]
        z = mean + s * xi
        log_p = -0.5 * (z * z + math.log(2 * math.pi)).sum(-1)
        log_q = -0.5 * (xi * xi + math.log(2 * math.pi) + log_var).sum(-1)
        logs.append(log_p - log_q - beta * energy(y, z))
    logs = torch.stack(logs, -1)
    top = logs.amax(-1, keepdim=True).detach()
    w = torch.exp(logs - top)
    F = -(torch.log(w.mean(-1)) + top[..., 0]) / beta
    return F, w.sum(-1) ** 2 / (w**2).sum(-1)


def posterior(y, W, beta):
    L = W.shape[-1]
    M = torch.eye(L, dtype=W.dtype, device=W.device) + 2 * beta * torch.einsum("di,dj->ij", W, W)
    chol = torch.linalg.cholesky(M)
    covariance = torch.cholesky_inverse(chol)
    return torch.einsum("ij,dj,...d->...i", covariance, W, y) * 2 * beta, covariance


def gap(y, W, beta, mean, log_var):
    centre, _ = posterior(y, W, beta)
    L = W.shape[-1]
    M = torch.eye(L, dtype=W.dtype) + 2 * beta * W.T @ W
    chol = torch.linalg.cholesky(M)
    away = (mean - centre) @ chol
    var = torch.exp(log_var)
    nats = torch.einsum("ii,...i->...", M, var) + (away * away).sum(-1) - L
    nats = nats - 2 * chol.diagonal().log().sum() - log_var.sum(-1)
    return nats / (2 * beta)

# Right: the posterior by singular values; weights and their number without slopes.
def importance_bound(energy, y, mean, log_var, beta, noise):
    K = noise.shape[-2]
    shape = noise.shape
    m = mean.unsqueeze(-2).expand(shape)
    v = log_var.unsqueeze(-2).expand(shape)
    Y = y.unsqueeze(-2).expand(*shape[:-1], y.shape[-1])
    z = m + v.mul(0.5).exp() * noise
    a = ((m - z) ** 2 / v.exp() + v - z**2).sum(-1) * 0.5 - beta * energy(Y, z)
    with torch.no_grad():
        w = torch.exp(a - a.max(-1, keepdim=True).values)
        w = w / w.sum(-1, keepdim=True)
        effective = 1 / torch.einsum("...k,...k->...", w, w)
    return -(a.logsumexp(-1) - math.log(K)) / beta, effective


def posterior(y, W, beta):
    _, S, Vh = torch.linalg.svd(W, full_matrices=True)
    L = W.shape[1]
    lam = torch.zeros(L, dtype=W.dtype)
    lam[: len(S)] = S**2
    C = Vh.mT @ torch.diag(1 / (1 + 2 * beta * lam)) @ Vh
    return 2 * beta * y @ W @ C.mT, C


def gap(y, W, beta, mean, log_var):
    c, C = posterior(y, W, beta)
    P = torch.distributions.MultivariateNormal(c, C)
    q = torch.distributions.MultivariateNormal(mean, torch.diag_embed(log_var.exp()))
    return torch.distributions.kl_divergence(q, P) / beta

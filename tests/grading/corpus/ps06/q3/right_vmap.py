# Right: written for one sample, vmapped over the rest.
def importance_bound(energy, y, mean, log_var, beta, noise):
    def one(y, m, v, xi):
        z = m + torch.exp(v / 2) * xi
        return (xi**2 - z**2 + v).sum(-1) / 2, z

    flat = [t.reshape(-1, t.shape[-1]) for t in (y, mean, log_var)]
    ratio, z = torch.vmap(one)(*flat, noise.reshape(-1, *noise.shape[-2:]))
    a = ratio.reshape(noise.shape[:-1]) - beta * energy(y[..., None, :], z.reshape(noise.shape))
    share = (a - a.logsumexp(-1, keepdim=True)).exp()
    return -(a.logsumexp(-1) - math.log(a.shape[-1])) / beta, 1 / share.square().sum(-1)


def posterior(y, W, beta):
    M = torch.eye(W.shape[1], dtype=W.dtype) + 2 * beta * W.T @ W
    flat = torch.vmap(lambda v: torch.linalg.solve(M, 2 * beta * W.T @ v))(y.reshape(-1, W.shape[0]))
    return flat.reshape(*y.shape[:-1], W.shape[1]), torch.linalg.inv(M)


def gap(y, W, beta, mean, log_var):
    L = W.shape[1]
    M = torch.eye(L, dtype=W.dtype) + 2 * beta * W.T @ W
    log_det = torch.linalg.slogdet(M).logabsdet

    def one(y, m, v):
        d = m - torch.linalg.solve(M, 2 * beta * W.T @ y)
        return (torch.trace(M @ torch.diag(v.exp())) + d @ M @ d - L - log_det - v.sum()) / 2

    flat = torch.vmap(one)(y.reshape(-1, W.shape[0]), mean.reshape(-1, L), log_var.reshape(-1, L))
    return flat.reshape(mean.shape[:-1]) / beta

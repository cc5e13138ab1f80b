# Right: the gap as the bound less the free energy; weights relative to the largest.
def importance_bound(energy, y, mean, log_var, beta, noise):
    K = noise.shape[-2]
    logs = []
    for k in range(K):
        xi = noise[..., k, :]
        z = mean + (log_var / 2).exp() * xi
        ratio = (xi * xi - z * z).sum(-1) / 2 + log_var.sum(-1) / 2
        logs.append(ratio - beta * energy(y, z))
    logs = torch.stack(logs)
    top = logs.detach().amax(0)
    w = torch.exp(logs - top)
    F = -(top + torch.log(w.mean(0))) / beta
    return F, w.sum(0) ** 2 / w.square().sum(0)


def posterior(y, W, beta):
    M = torch.eye(W.shape[1], dtype=W.dtype) + 2 * beta * W.T @ W
    gain = torch.linalg.solve(M, 2 * beta * W.T)
    return y @ gain.T, torch.linalg.inv(M)


def gap(y, W, beta, mean, log_var):
    _D, _L = W.shape
    error = (y - mean @ W.T).square().sum(-1) + (log_var.exp() * W.square().sum(0)).sum(-1)
    price = (mean.square() + log_var.exp() - log_var - 1).sum(-1) / 2
    middle, C = posterior(y, W, beta)
    least = (y - middle @ W.T).square().sum(-1) + middle.square().sum(-1) / (2 * beta)
    return error + price / beta - (least - torch.logdet(C) / (2 * beta))

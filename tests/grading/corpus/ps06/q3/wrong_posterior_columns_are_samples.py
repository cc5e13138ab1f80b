# Wrong: W.T @ y takes the columns of y for the samples. Loses q3_a, q3_c.
def _log_w(energy, y, mean, log_var, beta, noise):
    z = mean[..., None, :] + (log_var / 2).exp()[..., None, :] * noise
    E = energy(y[..., None, :], z)
    return (-(z**2) / 2 + noise**2 / 2 + log_var[..., None, :] / 2).sum(-1) - beta * E


def importance_bound(energy, y, mean, log_var, beta, noise):
    a = _log_w(energy, y, mean, log_var, beta, noise)
    F = -(torch.logsumexp(a, -1) - math.log(a.shape[-1])) / beta
    return F, 1 / torch.softmax(a, -1).square().sum(-1)


def _M(W, beta):
    return torch.eye(W.shape[1], dtype=W.dtype) + 2 * beta * W.T @ W


def posterior(y, W, beta):
    C = torch.linalg.inv(_M(W, beta))
    return 2 * beta * C @ W.T @ y, C


def gap(y, W, beta, mean, log_var):
    M = _M(W, beta)
    d = mean - torch.linalg.solve(M, 2 * beta * (y @ W)[..., None])[..., 0]
    spring = ((d @ M) * d).sum(-1)
    trace = (log_var.exp() * M.diagonal()).sum(-1)
    return (trace + spring - W.shape[1] - torch.logdet(M) - log_var.sum(-1)) / 2 / beta

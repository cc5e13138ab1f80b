# Right: by the matrix inversion lemma, in the space of y, in double.
def _log_w(energy, y, mean, log_var, beta, noise):
    z = mean[..., None, :] + (log_var / 2).exp()[..., None, :] * noise
    E = energy(y[..., None, :], z)
    return (-(z**2) / 2 + noise**2 / 2 + log_var[..., None, :] / 2).sum(-1) - beta * E


def importance_bound(energy, y, mean, log_var, beta, noise):
    a = _log_w(energy, y, mean, log_var, beta, noise)
    F = -(torch.logsumexp(a, -1) - math.log(a.shape[-1])) / beta
    return F, 1 / torch.softmax(a, -1).square().sum(-1)


def posterior(y, W, beta):
    V = W.double()
    D, L = V.shape
    A = torch.linalg.inv(torch.eye(D, dtype=V.dtype) / (2 * beta) + V @ V.T)
    C = torch.eye(L, dtype=V.dtype) - V.T @ A @ V
    return (y.double() @ A @ V).to(W.dtype), C.to(W.dtype)


def _M(W, beta):
    return torch.eye(W.shape[1], dtype=W.dtype) + 2 * beta * W.T @ W


def gap(y, W, beta, mean, log_var):
    M = _M(W, beta)
    d = mean - torch.linalg.solve(M, 2 * beta * (y @ W)[..., None])[..., 0]
    spring = ((d @ M) * d).sum(-1)
    trace = (log_var.exp() * M.diagonal()).sum(-1)
    return (trace + spring - W.shape[1] - torch.logdet(M) - log_var.sum(-1)) / 2 / beta

# Right: kept and dropped samples apart, put together by index.
def dropout_losses(energy, x, y, mean, log_var, beta, noise, dropped):
    rows = torch.arange(len(x))
    kept, gone = rows[~dropped], rows[dropped]
    z = mean[kept] + torch.sqrt(log_var[kept].exp()) * noise[kept]
    kl = 0.5 * (mean[kept] ** 2 + log_var[kept].exp() - log_var[kept] - 1).sum(-1)
    first = energy(x[kept], y[kept], z) + kl / beta
    zero = torch.zeros(len(gone), mean.shape[1], dtype=mean.dtype)
    second = energy(x[gone], y[gone], zero)
    return torch.cat([first, second])[torch.cat([kept, gone]).argsort()]


def best_of(futures, y):
    errors = (futures - y.unsqueeze(-2)).square().sum(-1)
    return errors.sort(-1).values[..., 0]


def error_of_mean(futures, y):
    return (futures - y.unsqueeze(-2)).sum(-2).div(futures.shape[-2]).square().sum(-1)


def coverage(futures, truths, tolerance):
    gaps = truths.unsqueeze(-2) - futures.unsqueeze(-3)
    found = torch.linalg.vector_norm(gaps.double(), dim=-1).pow(2).amin(-1)
    found = found <= tolerance * (1 + 1e-12)
    return found.sum(-1).to(futures.dtype) / truths.shape[-2]

# Right: energy called for kept and dropped apart, then back in order.
def _kl(mean, log_var):
    return (mean**2 + torch.expm1(log_var) - log_var).sum(-1) / 2


def dropout_losses(energy, x, y, mean, log_var, beta, noise, dropped):
    kept, gone = (~dropped).nonzero()[:, 0], dropped.nonzero()[:, 0]
    z = mean[kept] + torch.exp(log_var[kept] / 2) * noise[kept]
    paid = energy(x[kept], y[kept], z) + _kl(mean[kept], log_var[kept]) / beta
    alone = energy(x[gone], y[gone], torch.zeros(len(gone), mean.shape[1], dtype=mean.dtype))
    return torch.cat([paid, alone])[torch.argsort(torch.cat([kept, gone]))]


def best_of(futures, y):
    return (futures - y[..., None, :]).square().sum(-1).amin(-1)


def error_of_mean(futures, y):
    return (futures.mean(-2) - y).square().sum(-1)


def coverage(futures, truths, tolerance):
    d = (truths[..., :, None, :] - futures[..., None, :, :]).square().sum(-1)
    return (d <= tolerance).any(-1).to(futures.dtype).mean(-1)

# Wrong: kept samples first, then the dropped. Loses q4_a, q4_b, q4_c.
def _kl(mean, log_var):
    return (mean**2 + torch.expm1(log_var) - log_var).sum(-1) / 2


def dropout_losses(energy, x, y, mean, log_var, beta, noise, dropped):
    kept = ~dropped
    z = mean[kept] + torch.exp(log_var[kept] / 2) * noise[kept]
    paid = energy(x[kept], y[kept], z) + _kl(mean[kept], log_var[kept]) / beta
    alone = energy(x[dropped], y[dropped], torch.zeros_like(mean[dropped]))
    return torch.cat([paid, alone])


def best_of(futures, y):
    return (futures - y[..., None, :]).square().sum(-1).amin(-1)


def error_of_mean(futures, y):
    return (futures.mean(-2) - y).square().sum(-1)


def coverage(futures, truths, tolerance):
    d = (truths[..., :, None, :] - futures[..., None, :, :]).square().sum(-1)
    return (d <= tolerance).any(-1).to(futures.dtype).mean(-1)

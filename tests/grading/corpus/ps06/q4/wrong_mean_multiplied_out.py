# Wrong: the square of the mean error is multiplied out. Loses q4_d.
def _kl(mean, log_var):
    return (mean**2 + torch.expm1(log_var) - log_var).sum(-1) / 2


def dropout_losses(energy, x, y, mean, log_var, beta, noise, dropped):
    out = dropped[:, None]
    m, v, xi = (torch.where(out, 0.0, t) for t in (mean, log_var, noise))
    z = torch.where(out, 0.0, m + (v / 2).exp() * xi)
    return energy(x, y, z) + torch.where(dropped, 0.0, _kl(m, v)) / beta


def best_of(futures, y):
    return (futures - y[..., None, :]).square().sum(-1).amin(-1)


def error_of_mean(futures, y):
    c = futures.mean(-2)
    return c.square().sum(-1) + y.square().sum(-1) - 2 * (c * y).sum(-1)


def coverage(futures, truths, tolerance):
    d = (truths[..., :, None, :] - futures[..., None, :, :]).square().sum(-1)
    return (d <= tolerance).any(-1).to(futures.dtype).mean(-1)

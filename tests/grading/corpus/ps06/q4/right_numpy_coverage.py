# Right: coverage has no slope, so numpy; error of mean as mean error less the spread.
def _kl(mean, log_var):
    return (mean**2 + torch.expm1(log_var) - log_var).sum(-1) / 2


def dropout_losses(energy, x, y, mean, log_var, beta, noise, dropped):
    out = dropped[:, None]
    m, v, xi = (torch.where(out, 0.0, t) for t in (mean, log_var, noise))
    z = torch.where(out, 0.0, m + (v / 2).exp() * xi)
    return energy(x, y, z) + torch.where(dropped, 0.0, _kl(m, v)) / beta


def best_of(futures, y):
    e = (futures - y[..., None, :]).pow(2).sum(-1)
    return -torch.max(-e, dim=-1)[0]


def error_of_mean(futures, y):
    d = futures - y[..., None, :]
    centre = d.mean(-2, keepdim=True)
    return d.square().sum(-1).mean(-1) - (d - centre).square().sum(-1).mean(-1)


def coverage(futures, truths, tolerance):
    import numpy as np

    f, t = futures.detach().numpy(), truths.detach().numpy()
    d = ((t[..., :, None, :] - f[..., None, :, :]) ** 2).sum(-1)
    return torch.as_tensor(np.asarray((d <= tolerance).any(-1).mean(-1)), dtype=futures.dtype)

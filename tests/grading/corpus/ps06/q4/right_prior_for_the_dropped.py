# Right: masked_fill before anything is computed; the mean error by its identity.
def dropout_losses(energy, x, y, mean, log_var, beta, noise, dropped):
    gone = dropped[:, None].expand_as(mean)
    m, v, xi = (t.masked_fill(gone, 0.0) for t in (mean, log_var, noise))
    z = torch.where(gone, 0.0, m + (v / 2).exp() * xi)
    spring, size = m.square().sum(1) / 2, (v.exp() - 1 - v).sum(1) / 2
    return energy(x, y, z) + (spring + size) / beta


def best_of(futures, y):
    away = futures - y.unsqueeze(-2)
    errors = torch.einsum("...kd,...kd->...k", away, away)
    return errors.min(dim=-1).values


def error_of_mean(futures, y):
    away = futures - y.unsqueeze(-2)
    spread = away.var(-2, correction=0).sum(-1)
    return away.square().sum(-1).mean(-1) - spread


def coverage(futures, truths, tolerance):
    away = futures.unsqueeze(-2) - truths.unsqueeze(-3)
    errors = away.square().sum(-1)
    return (errors.amin(-2) <= tolerance).to(futures.dtype).mean(-1)

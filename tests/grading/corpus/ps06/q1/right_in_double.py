# Right: differences in float64 and a series near the minimum.
def excess(v):
    series = v**2 / 2 + v**3 / 6 + v**4 / 24 + v**5 / 120
    small = v.abs() < 1e-2
    away = torch.where(small, 1.0, v)
    return torch.where(small, series, torch.exp(away) - away - 1)


def information(mean, log_var):
    m, v = mean.double(), log_var.double()
    return ((m**2 + excess(v)) / 2).sum(-1).to(mean.dtype)


def divergence(mean, log_var, other_mean, other_log_var):
    m, v, n, w = (t.double() for t in (mean, log_var, other_mean, other_log_var))
    return ((((m - n) * torch.exp(-w / 2)) ** 2 + excess(v - w)) / 2).sum(-1).to(mean.dtype)


def bits_per_dimension(mean, log_var):
    m, v = mean.double(), log_var.double()
    nats = (m**2 + excess(v)) / 2
    return (nats.mean(0) / math.log(2)).to(mean.dtype)

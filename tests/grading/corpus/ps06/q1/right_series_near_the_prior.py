# Right: distance divided by r twice; series near the prior of four terms, formula elsewhere.
def _size(v):
    return torch.where(v.abs() < 1e-2, v * v / 2 + v**3 / 6 + v**4 / 24, v.exp() - v - 1)


def information(mean, log_var):
    return (mean**2 + _size(log_var)).sum(-1) / 2


def divergence(mean, log_var, other_mean, other_log_var):
    r = torch.exp(other_log_var / 2)
    d = mean - other_mean
    return (d / r * d / r + _size(log_var - other_log_var)).sum(-1) / 2


def bits_per_dimension(mean, log_var):
    return ((mean**2 + _size(log_var)) / 2 / math.log(2)).mean(0)

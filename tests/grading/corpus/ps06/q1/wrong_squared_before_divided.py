# Wrong: the squared distance is taken first, and may be 0 where the distance is not. Loses q1_a, q1_c.


def information(mean, log_var):
    return (mean**2 + torch.expm1(log_var) - log_var).sum(-1) / 2


def divergence(mean, log_var, other_mean, other_log_var):
    r = torch.exp(other_log_var / 2)
    away = (mean - other_mean) ** 2 / r / r
    d = log_var - other_log_var
    return (away + torch.expm1(d) - d).sum(-1) / 2


def bits_per_dimension(mean, log_var):
    half = mean**2 + torch.expm1(log_var) - log_var
    return half.mean(0) / 2 / math.log(2)

# Wrong: the mean of both directions. Loses q1_a, q1_c.
def information(mean, log_var):
    half = mean**2 + torch.expm1(log_var) - log_var
    return half.sum(-1) / 2


def divergence(mean, log_var, other_mean, other_log_var):
    away = (mean - other_mean) / torch.exp(other_log_var / 2)
    d = log_var - other_log_var
    back = (mean - other_mean) / torch.exp(log_var / 2)
    half = away**2 + back**2 + torch.expm1(d) + torch.expm1(-d)
    return half.sum(-1) / 4


def bits_per_dimension(mean, log_var):
    half = mean**2 + torch.expm1(log_var) - log_var
    return half.mean(0) / 2 / math.log(2)

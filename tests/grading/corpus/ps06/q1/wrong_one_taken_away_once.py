# Wrong: the 1 is taken away once, not in each dimension. Loses q1_a, q1_b, q1_c.
def information(mean, log_var):
    return ((mean**2 + log_var.exp() - log_var).sum(-1) - 1) / 2


def divergence(mean, log_var, other_mean, other_log_var):
    away = (mean - other_mean) / torch.exp(other_log_var / 2)
    d = log_var - other_log_var
    return ((away**2 + torch.exp(d) - d).sum(-1) - 1) / 2


def bits_per_dimension(mean, log_var):
    half = mean**2 + torch.expm1(log_var) - log_var
    return half.mean(0) / 2 / math.log(2)

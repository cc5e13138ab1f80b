# Wrong: one number for the whole batch. Loses q1_a, q1_b.
def information(mean, log_var):
    half = mean**2 + torch.expm1(log_var) - log_var
    return half.sum() / 2


def divergence(mean, log_var, other_mean, other_log_var):
    away = (mean - other_mean) / torch.exp(other_log_var / 2)
    d = log_var - other_log_var
    half = away**2 + torch.expm1(d) - d
    return half.sum(-1) / 2


def bits_per_dimension(mean, log_var):
    half = mean**2 + torch.expm1(log_var) - log_var
    return half.mean(0) / 2 / math.log(2)

# Wrong: answers in float64 whatever came. Loses q1_a, q1_b, q1_c, q1_d.
def divergence(mean, log_var, other_mean, other_log_var):
    mean, log_var, other_mean, other_log_var = (v.double() for v in (mean, log_var, other_mean, other_log_var))
    away = (mean - other_mean) / torch.exp(other_log_var / 2)
    d = log_var - other_log_var
    return (away**2 + torch.expm1(d) - d).sum(-1) / 2


def information(mean, log_var):
    return divergence(mean, log_var, torch.zeros_like(mean), torch.zeros_like(mean))


def bits_per_dimension(mean, log_var):
    mean, log_var = mean.double(), log_var.double()
    return (mean**2 + torch.expm1(log_var) - log_var).mean(0) / 2 / math.log(2)

# Wrong: the ratio of variances by way of sizes, and its exponential less 1. Loses q1_c.


def information(mean, log_var):
    return (mean**2 + torch.expm1(log_var) - log_var).sum(-1) / 2


def divergence(mean, log_var, other_mean, other_log_var):
    away = (mean - other_mean) / torch.exp(other_log_var / 2)
    log_ratio = 2 * (torch.exp(log_var / 2) / torch.exp(other_log_var / 2)).log()
    return (away**2 + torch.exp(log_ratio) - 1 - log_ratio).sum(-1) / 2


def bits_per_dimension(mean, log_var):
    half = mean**2 + torch.expm1(log_var) - log_var
    return half.mean(0) / 2 / math.log(2)

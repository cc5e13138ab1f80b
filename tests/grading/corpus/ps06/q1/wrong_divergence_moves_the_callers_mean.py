# Wrong: takes the other mean away from the caller's own, in place. Loses q1_a, q1_c.
def information(mean, log_var):
    return (mean**2 + torch.expm1(log_var) - log_var).sum(-1) / 2


def divergence(mean, log_var, other_mean, other_log_var):
    with torch.no_grad():
        mean -= other_mean
    return information(mean / torch.exp(other_log_var / 2), log_var - other_log_var)


def bits_per_dimension(mean, log_var):
    half = mean**2 + torch.expm1(log_var) - log_var
    return half.mean(0) / 2 / math.log(2)

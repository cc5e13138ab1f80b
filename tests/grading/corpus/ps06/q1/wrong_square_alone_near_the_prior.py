# Wrong: near the prior, only the square of log s². Loses q1_b, q1_c, q1_d.
def _size(v):
    return torch.where(v.abs() < 0.1, v * v / 2, v.exp() - v - 1)


def information(mean, log_var):
    return (mean**2 + _size(log_var)).sum(-1) / 2


def divergence(mean, log_var, other_mean, other_log_var):
    away = (mean - other_mean) / torch.exp(other_log_var / 2)
    return (away**2 + _size(log_var - other_log_var)).sum(-1) / 2


def bits_per_dimension(mean, log_var):
    return (mean**2 + _size(log_var)).mean(0) / 2 / math.log(2)

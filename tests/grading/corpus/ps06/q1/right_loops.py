# Right: a Python loop over dimensions, and math.
def information(mean, log_var):
    total = 0
    for i in range(mean.shape[-1]):
        m, v = mean[..., i], log_var[..., i]
        total = total + m * m / 2 + (torch.expm1(v) - v) / 2
    return total


def divergence(mean, log_var, other_mean, other_log_var):
    total = 0
    for i in range(mean.shape[-1]):
        away = (mean[..., i] - other_mean[..., i]) / (other_log_var[..., i] * 0.5).exp()
        v = log_var[..., i] - other_log_var[..., i]
        total = total + away * away / 2 + (torch.expm1(v) - v) / 2
    return total


def bits_per_dimension(mean, log_var):
    rows = [
        [information(mean[n, i : i + 1], log_var[n, i : i + 1]) for i in range(mean.shape[1])]
        for n in range(mean.shape[0])
    ]
    return sum(torch.stack(row) for row in rows) / len(rows) / math.log(2)

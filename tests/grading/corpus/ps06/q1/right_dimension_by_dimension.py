# Right: a loop over dimensions and samples, spring and size apart.
def spring_and_size(m, v):
    return m * m / 2, (torch.expm1(v) - v) / 2


def information(mean, log_var):
    total = 0.0
    for i in range(mean.shape[-1]):
        spring, size = spring_and_size(mean[..., i], log_var[..., i])
        total = total + spring + size
    return total


def divergence(mean, log_var, other_mean, other_log_var):
    total = 0.0
    for i in range(mean.shape[-1]):
        unit = torch.exp(other_log_var[..., i] / 2)
        m = (mean[..., i] - other_mean[..., i]) / unit
        v = log_var[..., i] - other_log_var[..., i]
        total = total + sum(spring_and_size(m, v))
    return total


def bits_per_dimension(mean, log_var):
    rows = [sum(spring_and_size(m, v)) for m, v in zip(mean, log_var, strict=True)]
    return torch.stack(rows).sum(0) / (len(rows) * math.log(2))

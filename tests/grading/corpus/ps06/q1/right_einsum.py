# Right: einsum of halves, expm1.
def information(mean, log_var):
    size = torch.expm1(log_var) - log_var
    return 0.5 * (torch.einsum("...l,...l->...", mean, mean) + torch.einsum("...l->...", size))


def divergence(mean, log_var, other_mean, other_log_var):
    mean, log_var, other_mean, other_log_var = torch.broadcast_tensors(mean, log_var, other_mean, other_log_var)
    gap = (mean - other_mean) / torch.exp(other_log_var / 2)
    log_ratio = log_var - other_log_var
    return 0.5 * (torch.einsum("...l,...l->...", gap, gap) + torch.einsum("...l->...", log_ratio.expm1() - log_ratio))


def bits_per_dimension(mean, log_var):
    N = mean.shape[0]
    nats = 0.5 * (mean**2 + torch.expm1(log_var) - log_var)
    return torch.einsum("nl->l", nats) / (N * math.log(2))

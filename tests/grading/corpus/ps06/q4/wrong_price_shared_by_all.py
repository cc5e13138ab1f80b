# Wrong: the kept samples' prices are averaged over the batch. Loses q4_a, q4_b, q4_c.
def code_cost(mean, log_var):
    return (mean**2 + log_var.exp() - log_var - 1).sum(-1) / 2


def dropout_losses(energy, x, y, mean, log_var, beta, noise, dropped):
    kept = ~dropped
    m, v = mean[kept], log_var[kept]
    z = torch.zeros_like(mean)
    z[kept] = m + torch.exp(v / 2) * noise[kept]
    losses = energy(x, y, z)
    cost = torch.zeros_like(losses)
    cost = cost + code_cost(m, v).sum() / len(x) / beta
    return losses + cost


def best_of(futures, y):
    errors = ((futures - y[..., None, :]) ** 2).sum(-1)
    return errors.amin(-1)


def error_of_mean(futures, y):
    return ((futures.mean(-2) - y) ** 2).sum(-1)


def coverage(futures, truths, tolerance):
    away = truths[..., :, None, :] - futures[..., None, :, :]
    near = (away**2).sum(-1) <= tolerance
    return near.any(-1).to(futures.dtype).mean(-1)

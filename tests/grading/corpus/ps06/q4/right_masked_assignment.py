# Right: fills an empty tensor by boolean masks; einsum; a loop over truths.
def _kl(mean, log_var):
    return (mean**2 + torch.expm1(log_var) - log_var).sum(-1) / 2


def dropout_losses(energy, x, y, mean, log_var, beta, noise, dropped):
    z = torch.zeros_like(mean)
    kept = ~dropped
    z[kept] = mean[kept] + torch.exp(log_var[kept] / 2) * noise[kept]
    losses = energy(x, y, z)
    price = torch.zeros_like(losses)
    price[kept] = _kl(mean[kept], log_var[kept]) / beta
    return losses + price


def best_of(futures, y):
    d = futures - y.unsqueeze(-2)
    return torch.einsum("...kd,...kd->...k", d, d).min(dim=-1).values


def error_of_mean(futures, y):
    d = torch.einsum("...kd->...d", futures - y.unsqueeze(-2)) / futures.shape[-2]
    return torch.einsum("...d,...d->...", d, d)


def coverage(futures, truths, tolerance):
    hits = []
    for j in range(truths.shape[-2]):
        hits.append(best_of(futures, truths[..., j, :]) <= tolerance)
    return torch.stack(hits, -1).to(truths.dtype).mean(-1)

# Right: masked_fill before use; topk for the best; coverage gathered prediction by prediction.
def dropout_losses(energy, x, y, mean, log_var, beta, noise, dropped):
    gone = dropped.unsqueeze(1)
    m = mean.masked_fill(gone, 0)
    v = log_var.masked_fill(gone, 0)
    z = m + torch.exp(v / 2) * noise.masked_fill(gone, 0)
    return energy(x, y, z) + information(m, v).div(beta)


def best_of(futures, y):
    e = torch.linalg.vector_norm(futures - y.unsqueeze(-2), dim=-1)
    return e.topk(1, largest=False).values.squeeze(-1) ** 2


def error_of_mean(futures, y):
    return torch.linalg.norm(futures.mean(-2) - y, dim=-1) ** 2


def coverage(futures, truths, tolerance):
    hit = 0
    for k in range(futures.shape[-2]):
        near = (truths - futures[..., k, None, :]).pow(2).sum(-1) <= tolerance
        hit = near if k == 0 else hit | near
    return hit.sum(-1).to(truths.dtype) / truths.shape[-2]

# Right: a stable sort, the prior inside, minima kept from step to step.
def infer(E):
    order = E.sort(dim=1, stable=True)
    return order.indices[:, 0], order.values[:, 0]


def soft_free_energy(E, beta):
    K = E.shape[-1]
    return -torch.logsumexp(-beta * E - math.log(K), dim=-1) / beta


def pair_energies(predictions, s_y):
    _B, _K, D = predictions.shape
    away = torch.stack([predictions - y for y in s_y], dim=1)
    return torch.einsum("ijkd,ijkd->ijk", away, away) / D


def capacity(E):
    B, _, K = E.shape
    best = E[..., 0]
    out = [best]
    for k in range(1, K):
        best = torch.minimum(best, E[..., k])
        out.append(best)
    own = torch.stack([b.trace() / B for b in out])
    other = torch.stack([(b.sum() - b.trace()) / B / (B - 1) for b in out])
    return [own, other]


def smallest_capacity(curve, error):
    return next((k + 1 for k, c in enumerate(curve.tolist()) if c <= error), 0)

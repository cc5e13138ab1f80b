# Right: codes by a loop over prototypes that keeps the first of equals; means as weighted averages.
def lloyd_step(y, W):
    best = torch.full((len(y),), math.inf, dtype=y.dtype)
    codes = torch.zeros(len(y), dtype=torch.long)
    for k, prototype in enumerate(W.T):
        energy = ((y - prototype) ** 2).sum(-1)
        closer = energy < best
        best, codes = torch.where(closer, energy, best), torch.where(closer, k, codes)
    columns = []
    for k in range(W.shape[1]):
        mask = (codes == k).to(y.dtype)[:, None]
        if mask.sum() == 0:
            columns.append(W[:, k])
        else:
            columns.append((mask * y).sum(0) / mask.sum())
    return codes, torch.stack(columns, 1)


def seed_probabilities(y, W):
    n = len(y)
    if W.numel() == 0:
        return torch.full((n,), 1 / n, dtype=y.dtype)
    F = torch.stack([((y - w) ** 2).sum(1) for w in W.T]).min(0).values
    return F / F.sum() if bool((F > 0).any()) else torch.full((n,), 1 / n, dtype=y.dtype)

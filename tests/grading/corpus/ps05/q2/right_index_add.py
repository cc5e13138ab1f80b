# Right: distances by cdist that does not multiply out; sums by index_add; a running minimum over the seeds.
def lloyd_step(y, W):
    far = torch.cdist(y, W.T, compute_mode="donot_use_mm_for_euclid_dist")
    far = far.min(dim=1, keepdim=True).values == far
    codes = far.to(torch.int8).argmax(1)
    count = torch.bincount(codes, minlength=W.shape[1])[:, None]
    sums = torch.zeros_like(W.T).index_add(0, codes, y)
    new = torch.where(count > 0, sums / count.clamp(min=1), W.T)
    return codes, new.T


def seed_probabilities(y, W):
    F = torch.full_like(y[:, 0], math.inf)
    for k in range(W.shape[1]):
        F = torch.minimum(F, ((y - W[:, k]) ** 2).sum(1))
    total = F.sum()
    if W.shape[1] == 0 or total == 0:
        return torch.ones_like(F) / len(y)
    return F / total

# Right: loops over centres.
def assign(y, centers, beta):
    energies = torch.stack([((y - c) ** 2).sum(dim=1) for c in centers], dim=1)
    if math.isinf(beta):
        responsibility = torch.zeros_like(energies)
        responsibility[torch.arange(len(y)), energies.argmin(dim=1)] = 1.0
        return responsibility, energies.min(dim=1).values
    log_sum = torch.logsumexp(-beta * energies, dim=1)
    return torch.exp(-beta * energies - log_sum[:, None]), -log_sum / beta


def update(y, responsibility, centers):
    rows = []
    for k in range(len(centers)):
        w = responsibility[:, k]
        rows.append(centers[k] if w.sum() == 0 else (w[:, None] * y).sum(0) / w.sum())
    return torch.stack(rows)

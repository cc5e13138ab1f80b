# Right: each sequence cut to its length.
def _free(u, pairwise, beta):
    F = u[0]
    for line in u[1:]:
        steps = F[:, None] + pairwise
        F = line + (steps.amin(0) if math.isinf(beta) else -torch.logsumexp(-beta * steps, 0) / beta)
    return F.amin() if math.isinf(beta) else -torch.logsumexp(-beta * F, 0) / beta


def path_energy(unary, pairwise, labels, lengths):
    found = []
    for u, y, n in zip(unary, labels, lengths.tolist(), strict=True):
        y = y[:n]
        found.append(u[torch.arange(n), y].sum() + pairwise[y[:-1], y[1:]].sum())
    return torch.stack(found)


def hinge_loss(unary, pairwise, labels, lengths, margin=1.0):
    rivals = []
    for u, y, n in zip(unary, labels, lengths.tolist(), strict=True):
        cheaper = u[:n] - margin
        own = torch.nn.functional.one_hot(y[:n], u.shape[1]).to(u)
        rivals.append(_free(cheaper + margin * own, pairwise, math.inf))
    return path_energy(unary, pairwise, labels, lengths) - torch.stack(rivals)


def nll_loss(unary, pairwise, labels, lengths, beta=1.0):
    free = [_free(u[:n], pairwise, beta) for u, n in zip(unary, lengths.tolist(), strict=True)]
    return path_energy(unary, pairwise, labels, lengths) - torch.stack(free)

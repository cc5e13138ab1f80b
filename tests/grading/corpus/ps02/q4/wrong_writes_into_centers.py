# Wrong: moves the caller's centres in place. Loses q4_a, q4_c.
def assign(y, centers, beta):
    energy = (y[:, None] - centers).square().sum(-1)
    if math.isinf(beta):
        lowest, nearest = energy.min(1)
        return torch.nn.functional.one_hot(nearest, len(centers)).to(y.dtype), lowest
    return torch.softmax(-beta * energy, 1), -torch.logsumexp(-beta * energy, 1) / beta


def update(y, responsibility, centers):
    for k in range(len(centers)):
        total = responsibility[:, k].sum()
        if total > 0:
            centers[k] = responsibility[:, k] @ y / total
    return centers

# Wrong: no case for β = ∞. Loses q4_a, q4_b, q4_d.
def assign(y, centers, beta):
    energy = (y[:, None] - centers).square().sum(-1)
    return torch.softmax(-beta * energy, 1), -torch.logsumexp(-beta * energy, 1) / beta


def update(y, responsibility, centers):
    total = responsibility.sum(0)[:, None]
    return torch.where(total == 0, centers, responsibility.T @ y / torch.where(total == 0, 1.0, total))

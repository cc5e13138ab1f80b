# Right: a table with a border of +inf, and 0 in its corner.
def squared_costs(x, y):
    """Squared distance of each pair: x (N, D), y (M, D) -> (N, M)."""
    return (x[:, None] - y).square().sum(-1)


def _full(cost, beta):
    N, M = cost.shape
    never = cost.new_tensor(math.inf)
    D = [[never] * (M + 1) for _ in range(N + 1)]
    D[0][0] = cost.new_tensor(0.0)
    for i in range(1, N + 1):
        for j in range(1, M + 1):
            near = torch.stack([D[i - 1][j], D[i][j - 1], D[i - 1][j - 1]])
            low = near.min() if math.isinf(beta) else torch.logsumexp(near * -beta, 0) / -beta
            D[i][j] = cost[i - 1, j - 1] + low
    return D


def alignment_energy(cost, beta=math.inf):
    return _full(cost, beta)[cost.shape[0]][cost.shape[1]]


def best_alignment(cost):
    D, (i, j), cells = _full(cost, math.inf), cost.shape, []
    while i > 0 and j > 0:
        cells.append([i - 1, j - 1])
        i, j = min(((i - 1, j - 1), (i - 1, j), (i, j - 1)), key=lambda c: D[c[0]][c[1]].item())
    return torch.tensor(cells).flip(0)

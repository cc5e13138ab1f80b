# Right: the energy still to come; the path walked forwards.
def squared_costs(x, y):
    return torch.stack([((p - y) ** 2).sum(1) for p in x])


def to_come(cost, beta):
    N, M = cost.shape
    D = {}
    for i in reversed(range(N)):
        for j in reversed(range(M)):
            near = [D[c] for c in ((i + 1, j), (i, j + 1), (i + 1, j + 1)) if c in D]
            if not near:
                D[i, j] = cost[i, j]
            elif math.isinf(beta):
                D[i, j] = cost[i, j] + torch.stack(near).min()
            else:
                D[i, j] = cost[i, j] - torch.stack(near).mul(-beta).logsumexp(0) / beta
    return D


def alignment_energy(cost, beta=math.inf):
    return to_come(cost, beta)[0, 0]


def best_alignment(cost):
    D, cells = to_come(cost, math.inf), [(0, 0)]
    while cells[-1] != (cost.shape[0] - 1, cost.shape[1] - 1):
        i, j = cells[-1]
        near = [c for c in ((i + 1, j + 1), (i + 1, j), (i, j + 1)) if c in D]
        cells.append(min(near, key=D.get))
    return torch.tensor(cells)

# Right: one anti-diagonal at a time; the path from the gradient-free arrows.
def squared_costs(x, y):
    rest = x.unsqueeze(1) - y.unsqueeze(0)
    return torch.einsum("nmd,nmd->nm", rest, rest)


def alignment_energy(cost, beta=math.inf):
    N, M = cost.shape
    before, last = {}, {(0, 0): cost[0, 0]}
    for s in range(1, N + M - 1):
        now = {}
        for i in range(max(0, s - M + 1), min(N, s + 1)):
            j = s - i
            near = [t[c] for t, c in ((last, (i - 1, j)), (last, (i, j - 1)), (before, (i - 1, j - 1))) if c in t]
            near = torch.stack(near)
            low = near.amin() if beta == math.inf else -torch.logsumexp(-beta * near, 0) / beta
            now[i, j] = low + cost[i, j]
        before, last = last, now
    return last[N - 1, M - 1]


def best_alignment(cost):
    C = cost.tolist()
    best = {}
    for i in range(len(C)):
        for j in range(len(C[0])):
            near = [best[c] for c in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if c in best]
            energy, way = min(near, key=lambda e: e[0]) if near else (0.0, None)
            best[i, j] = (energy + C[i][j], ((i, j), way))
    cells, link = [], best[len(C) - 1, len(C[0]) - 1][1]
    while link:
        cells.append(link[0])
        link = link[1]
    return torch.tensor(cells[::-1])

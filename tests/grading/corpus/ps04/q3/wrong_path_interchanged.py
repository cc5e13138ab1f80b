# Wrong: gives the cells of the path columns first.
def squared_costs(x, y):
    """Squared distance of each pair: x (N, D), y (M, D) -> (N, M)."""
    return (x[:, None] - y).square().sum(-1)


def alignment_energy(cost, beta=math.inf):
    """Free energy of all alignments: cost (N, M) -> ()."""
    return _table(cost, beta)[-1][-1]


def _table(cost, beta):
    rows = []
    for i, line in enumerate(cost):
        row = []
        for j, c in enumerate(line):
            before = [rows[i - 1][j]] if i else []
            before += [row[j - 1]] if j else []
            before += [rows[i - 1][j - 1]] if i and j else []
            row.append(c + _soft(torch.stack(before), beta) if before else c)
        rows.append(row)
    return rows


def _soft(energies, beta):
    if math.isinf(beta):
        return energies.amin(0)
    return -torch.logsumexp(-beta * energies, 0) / beta


def best_alignment(cost):
    """The cells of the best alignment, in order: cost (N, M) -> (L, 2)."""
    rows = _table(cost, math.inf)
    i, j = cost.shape[0] - 1, cost.shape[1] - 1
    cells = [(i, j)]
    while i or j:
        before = [(i - 1, j), (i, j - 1), (i - 1, j - 1)]
        before = [(a, b) for a, b in before if a >= 0 and b >= 0]
        i, j = min(before, key=lambda cell: float(rows[cell[0]][cell[1]]))
        cells.append((i, j))
    return torch.tensor(cells[::-1]).flip(1)

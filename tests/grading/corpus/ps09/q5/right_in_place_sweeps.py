# Right: sweeps state by state, with the newest values at once.
def cost_to_go(costs, ahead, goal):
    table, to, ends = costs.tolist(), ahead.tolist(), goal.tolist()
    V = [0.0 if end else math.inf for end in ends]
    changed = True
    while changed:
        changed = False
        for s, row in enumerate(table):
            best = min(c + V[x] for c, x in zip(row, to[s]))
            if not ends[s] and best < V[s]:
                V[s], changed = best, True
    policy = torch.empty(len(V), dtype=torch.long)
    for s, row in enumerate(table):
        values = [c + V[x] for c, x in zip(row, to[s])]
        idle = ends[s] or V[s] == math.inf
        policy[s] = -1 if idle else min(range(len(values)), key=values.__getitem__)
    return torch.tensor(V, dtype=costs.dtype), policy


def targets(costs, values, steps, discount, ended):
    costs = costs.detach()
    tail = values.detach()[1:].clone()
    tail[-1] *= 0 if ended else 1
    N = len(costs)
    found = torch.zeros_like(costs)
    for t in range(N):
        y = tail[min(t + steps, N) - 1]
        for k in range(min(t + steps, N) - 1, t - 1, -1):
            y = costs[k] + discount * y
        found[t] = y
    return found

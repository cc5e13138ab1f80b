# Right: Dijkstra from the goals; targets from the back.
def cost_to_go(costs, ahead, goal):
    n, k = costs.shape
    back = [[] for _ in range(n)]
    for s, row in enumerate(ahead.tolist()):
        for a, to in enumerate(row):
            back[to].append((s, costs[s, a].item()))
    V = [math.inf] * n
    queue = [(0.0, s) for s in range(n) if goal[s]]
    while queue:
        price, s = heapq.heappop(queue)
        if price >= V[s]:
            continue
        V[s] = price
        for before, extra in back[s]:
            if price + extra < V[before]:
                heapq.heappush(queue, (price + extra, before))
    policy = []
    for s in range(n):
        row = [costs[s, a].item() + V[int(ahead[s, a])] for a in range(k)]
        policy.append(-1 if goal[s] or V[s] == math.inf else row.index(min(row)))
    return torch.tensor(V, dtype=costs.dtype), torch.tensor(policy)


@torch.no_grad()
def targets(costs, values, steps, discount, ended):
    N = len(costs)
    y = []
    for t in range(N):
        stop = min(t + steps, N)
        total = 0 * values[0] if ended and stop == N else values[stop]
        for c in costs[t:stop].flip(0):
            total = c + discount * total
        y.append(total)
    return torch.stack(y).detach()

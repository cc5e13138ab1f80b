# Right: relaxes until two sweeps agree; targets as a matrix of discounts.
def cost_to_go(costs, ahead, goal):
    V = costs.new_full((len(goal),), math.inf)
    V[goal] = 0
    last = None
    while last is None or not torch.equal(last, V):
        last = V.clone()
        V = torch.minimum(V, (costs + V[ahead]).min(1).values)
    value = costs + V[ahead]
    policy = torch.full(goal.shape, -1)
    for a in reversed(range(costs.shape[1])):
        good = (value[:, a] == value.min(1).values) & ~goal & V.isfinite()
        policy[good] = a
    return V, policy


def targets(costs, values, steps, discount, ended):
    with torch.no_grad():
        N = len(costs)
        t = torch.arange(N)
        gap = t[None, :] - t[:, None]
        m = (N - t).clamp(max=steps)
        near = (gap >= 0) & (gap < m[:, None])
        power = torch.tensor(float(discount), dtype=costs.dtype) ** gap.clamp(min=0)
        mine = torch.where(near, power, 0.0).to(costs.dtype) @ costs
        guess = values[t + m]
        if ended:
            guess = guess.masked_fill(t + m == N, 0)
        return mine + torch.tensor(float(discount), dtype=costs.dtype) ** m * guess

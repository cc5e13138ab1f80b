# Wrong: the policy takes the cheapest action. Loses q5_a, q5_b.
def cost_to_go(costs, ahead, goal):
    V = torch.where(goal, 0.0, math.inf).to(costs.dtype)
    for _ in range(len(goal) + 1):
        Q = costs + V[ahead]
        V = torch.where(goal, 0.0, Q.amin(1)).to(costs.dtype)
    Q = costs
    policy = (Q == Q.amin(1, keepdim=True)).int().argmax(1)
    return V, torch.where(goal | V.isinf(), -1, policy)


def targets(costs, values, steps, discount, ended):
    costs, values = costs.detach(), values.detach().clone()
    if ended:
        values[-1] = 0
    N = len(costs)
    y = []
    for t in range(N):
        m = min(steps, N - t)
        total = discount**m * values[t + m]
        for k in range(m):
            total = total + discount**k * costs[t + k]
        y.append(total)
    return torch.stack(y)

# Right: the path by recursion, the weights as a softmax of p log t.
def rollout(step, s, actions):
    lead = torch.broadcast_shapes(s.shape[:-1], actions.shape[:-2])
    first = s.broadcast_to(lead + s.shape[-1:]).unsqueeze(-2)
    if actions.shape[-2] == 0:
        return first
    behind = rollout(step, step(first[..., 0, :], actions[..., 0, :]), actions[..., 1:, :])
    return torch.cat([first, behind], -2)


def path_energy(states, goal, power, radius):
    behind = states[..., 1:, :]
    D = behind.shape[-1]
    d = torch.linalg.vector_norm(behind - goal[..., None, :], dim=-1) / math.sqrt(D)
    t = torch.arange(1, behind.shape[-2] + 1, dtype=states.dtype)
    w = torch.softmax(power * t.log(), 0)
    return torch.log1p(d / radius) @ w

# Right: a square root that is kept from 0 where it has no slope.
def rollout(step, s, actions):
    lead = torch.broadcast_shapes(s.shape[:-1], actions.shape[:-2])
    s, actions = s.expand(*lead, -1), actions.expand(*lead, -1, -1)
    path = [s]
    while len(path) <= actions.shape[-2]:
        path.append(step(path[-1], actions[..., len(path) - 1, :]))
    return torch.stack(path, -2)


def path_energy(states, goal, power, radius):
    square = (states[..., 1:, :] - goal[..., None, :]).pow(2).mean(-1)
    there = square == 0
    d = torch.where(there, 0.0, torch.where(there, 1.0, square).sqrt())
    steps = torch.linspace(1 / d.shape[-1], 1, d.shape[-1], dtype=d.dtype)
    w = steps.pow(power)
    return (w * (1 + d / radius).log()).sum(-1) / w.sum()

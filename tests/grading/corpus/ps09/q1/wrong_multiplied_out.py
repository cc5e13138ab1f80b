# Wrong: squares multiplied out: no digits are left far from 0. Loses q1_c.
def rollout(step, s, actions):
    lead = torch.broadcast_shapes(s.shape[:-1], actions.shape[:-2])
    here = s.expand(*lead, s.shape[-1])
    path = [here]
    for t in range(actions.shape[-2]):
        here = step(here, actions[..., t, :])
        path.append(here)
    return torch.stack(path, -2)


def path_energy(states, goal, power, radius):
    H = states.shape[-2] - 1
    g = goal.unsqueeze(-2)
    square = states[..., 1:, :].square().mean(-1) + g.square().mean(-1)
    square = square - 2 * (states[..., 1:, :] * g).mean(-1)
    d = square.clamp(min=1e-30).sqrt()
    t = torch.arange(1, H + 1, dtype=d.dtype) / H
    w = t**power / (t**power).sum()
    return (w * torch.log1p(d / radius)).sum(-1)

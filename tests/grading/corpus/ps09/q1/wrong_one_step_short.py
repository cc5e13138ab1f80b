# Wrong: one action is left out. Loses q1_a, q1_b.
def rollout(step, s, actions):
    lead = torch.broadcast_shapes(s.shape[:-1], actions.shape[:-2])
    here = s.expand(*lead, s.shape[-1])
    path = [here]
    for t in range(actions.shape[-2] - 1):
        here = step(here, actions[..., t, :])
        path.append(here)
    return torch.stack(path, -2)


def path_energy(states, goal, power, radius):
    H = states.shape[-2] - 1
    gap = states[..., 1:, :] - goal.unsqueeze(-2)
    d = gap.norm(dim=-1) / gap.shape[-1] ** 0.5
    t = torch.arange(1, H + 1, dtype=d.dtype) / H
    w = t**power / (t**power).sum()
    return (w * torch.log1p(d / radius)).sum(-1)

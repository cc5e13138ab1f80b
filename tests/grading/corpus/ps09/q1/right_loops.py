# Right: a loop over time in both, weights in Python numbers.
def rollout(step, s, actions):
    lead = torch.broadcast_shapes(s.shape[:-1], actions.shape[:-2])
    here = s.expand(*lead, s.shape[-1])
    path = here[..., None, :]
    for a in actions.expand(*lead, *actions.shape[-2:]).unbind(-2):
        here = step(here, a)
        path = torch.cat([path, here[..., None, :]], -2)
    return path


def path_energy(states, goal, power, radius):
    H, D = states.shape[-2] - 1, states.shape[-1]
    total, norm = 0.0, 0.0
    for t in range(1, H + 1):
        w = math.exp(power * math.log(t / H))
        gap = states[..., t, :] - goal
        d = torch.linalg.norm(gap, dim=-1) / D**0.5
        total, norm = total + w * (1 + d / radius).log(), norm + w
    return total / norm

# Right: distances of vectors that are divided by the root of D first, einsum for the sum.
def rollout(step, s, actions):
    lead = torch.broadcast_shapes(s.shape[:-1], actions.shape[:-2])
    path = [s + torch.zeros(*lead, 1, dtype=s.dtype)]
    for t in range(actions.size(-2)):
        path.append(step(path[t], actions.select(-2, t)))
    return torch.stack(path, dim=-2)


def path_energy(states, goal, power, radius):
    away = (states - goal.unsqueeze(-2)).narrow(-2, 1, states.shape[-2] - 1)
    away = away / states.shape[-1] ** 0.5
    cost = torch.log1p(torch.linalg.vector_norm(away, dim=-1) / radius)
    H = cost.shape[-1]
    w = torch.tensor([((t + 1) / H) ** power for t in range(H)], dtype=cost.dtype)
    return torch.einsum("...t,t->...", cost, w / w.sum())

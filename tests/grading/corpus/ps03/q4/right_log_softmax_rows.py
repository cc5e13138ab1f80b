# Right: log_softmax and a minus sign; the batch row by row.
def info_nce(positive, negative, beta=1.0):
    energies = torch.cat((positive.unsqueeze(dim=-1), negative), dim=-1)
    return -torch.log_softmax(-beta * energies, dim=-1)[..., 0]


def info_nce_in_batch(x, y, beta=1.0):
    unit = [v / v.square().sum().sqrt() for v in y]
    losses = []
    for i, v in enumerate(x):
        v = v / v.square().sum().sqrt()
        F = torch.stack([-(v * u).sum() for u in unit])
        rest = torch.cat([F[:i], F[i + 1 :]])
        losses.append(info_nce(F[i], rest, beta))
    return torch.stack(losses)

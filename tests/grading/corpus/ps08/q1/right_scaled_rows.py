# Right: rows scaled first, the upper triangle twice, lerp.
def information(s, variance=1.0, covariance=0.04):
    s = s.flatten(0, -2)
    n, D = s.shape
    c = (s - s.mean(0)) / math.sqrt(n - 1)
    C = (c[:, :, None] * c[:, None, :]).sum(0)
    std = torch.sqrt(torch.diag(C) + 1e-4)
    hinge = torch.where(std < 1, 1 - std, torch.zeros_like(std))
    up = torch.triu(C, diagonal=1)
    return 0.5 * variance * hinge.mean() + covariance * 2 * (up**2).sum() / D


def jepa(predicted, s_x, s_y, z, price, stop_gradient=False):
    aim = s_y.clone().detach() if stop_gradient else s_y
    prediction = ((predicted - aim) ** 2).flatten(0, -2).mean(1).mean()
    latent = predicted.new_tensor(0.0) if z is None else price * torch.linalg.vector_norm(z, 1, dim=-1).mean()
    terms = prediction, information(s_x), information(s_y), latent
    return (terms[0] + terms[1] + terms[2] + terms[3], *terms)


def target_path(start, weights, momenta):
    out = []
    for t in range(weights.shape[0]):
        before = out[-1] if out else start.data
        out.append(before.lerp(weights.data[t], 1 - momenta.data[t]))
    return torch.stack(out, dim=0)

# Right: by torch.cov and var, which need a second look for one variable.
def information(s, variance=1.0, covariance=0.04):
    s = s.reshape(-1, s.shape[-1])
    D = s.shape[1]
    C = torch.cov(s.T).reshape(D, D)
    hinge = torch.nn.functional.relu(1 - (s.var(0) + 1e-4).sqrt()).sum()
    off = C.pow(2).sum() - C.diagonal().pow(2).sum()
    return (variance * hinge / 2 + covariance * off) / D


def jepa(predicted, s_x, s_y, z, price, stop_gradient=False):
    mse = torch.nn.functional.mse_loss(predicted, s_y.detach() if stop_gradient else s_y)
    terms = [mse, information(s_x), information(s_y)]
    terms.append(price * z.abs().sum(-1).mean() if z is not None else torch.zeros_like(mse))
    return torch.stack(terms).sum(), *terms


@torch.no_grad()
def target_path(start, weights, momenta):
    xi, path = start, torch.empty_like(weights)
    for t, m in enumerate(momenta):
        xi = torch.lerp(weights[t], xi, m)
        path[t] = xi
    return path.detach()

# Wrong: `detach_()`: the encoder's weights are frozen. Loses q1_e.
def information(s, variance=1.0, covariance=0.04):
    s = s.reshape(-1, s.shape[-1])
    n, D = s.shape
    centred = s - s.mean(0)
    C = centred.T @ centred / (n - 1)
    lacks = (1 - (C.diagonal() + 1e-4).sqrt()).relu().mean()
    off = C.masked_fill(torch.eye(D, dtype=torch.bool), 0).square().sum() / D
    return variance / 2 * lacks + covariance * off


def jepa(predicted, s_x, s_y, z, price, stop_gradient=False):
    aim = s_y.detach() if stop_gradient else s_y
    terms = (
        (predicted - aim).square().mean(),
        information(s_x),
        information(s_y),
        s_y.new_zeros(()) if z is None else price * z.abs().sum(-1).mean(),
    )
    return sum(terms), *terms


def target_path(start, weights, momenta):
    path, xi = [], start.detach_()
    weights.detach_()
    momenta.detach_()
    for theta, m in zip(weights, momenta):
        xi = m * xi + (1 - m) * theta
        path.append(xi)
    return torch.stack(path)

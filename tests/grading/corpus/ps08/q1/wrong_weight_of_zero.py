# Wrong: a weight of 0 is taken for none given. Loses q1_b.
def information(s, variance=1.0, covariance=0.04):
    s = s.reshape(-1, s.shape[-1])
    n, D = s.shape
    variance = variance or 1.0
    c = s - s.mean(0)
    C = c.T @ c / (n - 1)
    return (
        variance / 2 * (1 - (C.diagonal() + 1e-4).sqrt()).relu().mean()
        + covariance * (C.square().sum() - C.diagonal().square().sum()) / D
    )


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
    path, xi = [], start.detach()
    for theta, m in zip(weights.detach(), momenta.detach(), strict=True):
        xi = m * xi + (1 - m) * theta
        path.append(xi)
    return torch.stack(path)

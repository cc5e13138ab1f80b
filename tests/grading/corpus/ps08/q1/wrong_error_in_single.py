# Wrong: the prediction error is computed in float32 and put into float64. Loses q1_c.
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
    p, a, b = (predicted.float() - aim.float()).square().mean().to(s_y.dtype), information(s_x), information(s_y)
    latent = s_y.new_zeros(()) if z is None else price * z.abs().sum(-1).mean()
    return p + a + b + latent, p, a, b, latent


def target_path(start, weights, momenta):
    path, xi = [], start.detach()
    for theta, m in zip(weights.detach(), momenta.detach(), strict=True):
        xi = m * xi + (1 - m) * theta
        path.append(xi)
    return torch.stack(path)

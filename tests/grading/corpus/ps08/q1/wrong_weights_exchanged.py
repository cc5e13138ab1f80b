# Wrong: weights exchanged. Loses q1_a, q1_b, q1_c, q1_d.
def information(s, variance=1.0, covariance=0.04):
    rows = s.flatten(0, -2)
    n, D = rows.shape
    rows = rows - rows.mean(0)
    C = rows.T @ rows / (n - 1)
    hinge = torch.relu(1 - torch.sqrt(C.diagonal() + 1e-4)).mean()
    off = (C - torch.diag(C.diagonal())).square().sum() / D
    return covariance / 2 * hinge + variance * off


def jepa(predicted, s_x, s_y, z, price, stop_gradient=False):
    target = s_y.detach() if stop_gradient else s_y
    error = (predicted - target).square().mean()
    of_x, of_y = information(s_x), information(s_y)
    latent = s_y.new_zeros(()) if z is None else price * z.abs().sum(-1).mean()
    return error + of_x + of_y + latent, error, of_x, of_y, latent


def target_path(start, weights, momenta):
    path = []
    with torch.no_grad():
        for m, theta in zip(momenta, weights):
            start = m * start + (1 - m) * theta
            path.append(start)
        return torch.stack(path)

# Right: in float64, and back.
def information(s, variance=1.0, covariance=0.04):
    rows = s.reshape(-1, s.shape[-1]).double()
    rows = rows - rows.mean(0)
    n, D = rows.shape
    gram = (rows @ rows.T).square().sum() / (n - 1) ** 2  # all C_ij squared, by the rows
    var = rows.square().sum(0) / (n - 1)
    off = (gram - var.square().sum()) / D
    return (variance / 2 * (1 - (var + 1e-4).sqrt()).relu().mean() + covariance * off).to(s.dtype)


def jepa(predicted, s_x, s_y, z, price, stop_gradient=False):
    aim = s_y.detach() if stop_gradient else s_y
    mse = (predicted.double() - aim.double()).square().mean().to(s_y.dtype)
    said = torch.tensor(0.0, dtype=s_y.dtype)
    if z is not None:
        said = (price * z.double().norm(p=1, dim=-1).mean()).to(s_y.dtype)
    of_x, of_y = information(s_x), information(s_y)
    return (mse + of_x + of_y + said, mse, of_x, of_y, said)


def target_path(start, weights, momenta):
    m = momenta.detach().double()
    left = torch.cat([m.new_ones(1), m.cumprod(0)])
    rows = []
    for t in range(len(m)):
        shares = torch.stack([(1 - m[u]) * m[u + 1 : t + 1].prod() for u in range(t + 1)])
        rows.append(left[t + 1] * start.detach().double() + shares @ weights.detach()[: t + 1].double())
    return torch.stack(rows).to(start.dtype)

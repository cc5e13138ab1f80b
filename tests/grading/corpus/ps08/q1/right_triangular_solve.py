# Right: cov with another mask, torch.where for |z|; the path as a triangular system; a list of terms.
def information(s, variance=1.0, covariance=0.04):
    rows = s.reshape(-1, s.shape[-1])
    D = rows.shape[-1]
    C = torch.atleast_2d(torch.cov(rows.mT, correction=1))
    var = rows.var(dim=0, unbiased=True)
    hinge = torch.max(torch.zeros(D, dtype=s.dtype), 1 - torch.sqrt(var + 0.0001))
    off = C[~torch.eye(D, dtype=torch.bool)].pow(2).sum() / D
    return variance * hinge.sum() / (2 * D) + covariance * off


def jepa(predicted, s_x, s_y, z, price, stop_gradient=False):
    if stop_gradient:
        with torch.no_grad():
            aim = s_y * 1
    else:
        aim = s_y
    D = s_y.size(-1)
    n = s_y.numel() // D
    prediction = torch.sum((predicted - aim) ** 2) / (n * D)
    latent = torch.zeros_like(prediction)
    if z is not None:
        latent = torch.where(z > 0, z, -z).sum() * price / n
    loss = prediction + information(s_x) + information(s_y) + latent
    return [loss, prediction, information(s_x), information(s_y), latent]


def target_path(start, weights, momenta):
    m = momenta.detach()
    T = len(m)
    # solve (1 - m shift) xi = (1 - m) theta + m_1 xi_0
    L = torch.eye(T, dtype=m.dtype) - torch.diag(m[1:], -1)
    right = (1 - m)[:, None] * weights.detach()
    right[0] += m[0] * start.detach()
    return torch.linalg.solve_triangular(L, right, upper=False, unitriangular=True)

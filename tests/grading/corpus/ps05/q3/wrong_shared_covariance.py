# Wrong: one covariance for all components. Loses q3_a, q3_c, q3_d.
def energies(y, weights, means, covariances):
    L = torch.linalg.cholesky(covariances)
    away = (y.unsqueeze(-2) - means.T).unsqueeze(-1)
    white = torch.linalg.solve_triangular(L, away, upper=False).squeeze(-1)
    log_det = 2 * L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    D = y.shape[-1]
    square = white.square().sum(-1)
    return square / 2 + log_det / 2 + D / 2 * math.log(2 * math.pi) - weights.log()


def e_step(y, weights, means, covariances):
    E = energies(y, weights, means, covariances)
    return -torch.logsumexp(-E, -1), torch.softmax(-E, -1)


def m_step(y, r, floor=1e-6):
    n = r.sum(0)
    means = y.T @ r / n
    away = y[:, None] - means.T
    C = torch.einsum("nk,nkd,nke->kde", r, away, away) / n[:, None, None]
    C = (n[:, None, None] * C).sum(0).expand_as(C) / len(y)
    return n / len(y), means, C + floor * torch.eye(y.shape[1], dtype=y.dtype)


def bound(y, r, weights, means, covariances):
    E = energies(y, weights, means, covariances)
    mean_energy = torch.where(r > 0, r * E, 0.0).sum(-1)
    return mean_energy - torch.special.entr(r).sum(-1)

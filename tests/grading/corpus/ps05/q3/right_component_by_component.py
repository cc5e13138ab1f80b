# Right: a loop over components; the bound as F plus a Kullback-Leibler divergence.
def one(y, mean, covariance):
    L = torch.linalg.cholesky(covariance)
    gap = (y - mean).reshape(-1, len(mean)).T
    white = torch.linalg.solve_triangular(L, gap, upper=False)
    square = white.pow(2).sum(0).reshape(y.shape[:-1])
    return square / 2 + L.diagonal().log().sum() + len(mean) * math.log(2 * math.pi) / 2


def e_step(y, weights, means, covariances):
    E = [one(y, means[:, k], covariances[k]) for k in range(len(weights))]
    E = torch.stack(E, -1) - torch.log(weights)
    return -torch.logsumexp(-E, -1), torch.softmax(-E, -1)


def m_step(y, r, floor=1e-6):
    weights, means, covariances = [], [], []
    for share in r.T:
        mass = share.sum()
        mean = (share @ y) / mass
        away = (y - mean) * share.sqrt()[:, None]
        weights.append(mass / len(y))
        means.append(mean)
        C = away.T @ away / mass
        covariances.append(C + torch.diag(torch.full_like(mean, floor)))
    return torch.stack(weights), torch.stack(means, 1), torch.stack(covariances)


def bound(y, r, weights, means, covariances):
    total = 0.0
    for k in range(len(weights)):
        E = one(y, means[:, k], covariances[k]) - torch.log(weights[k])
        own = r[..., k]
        term = own * E + own * torch.log(own)
        total = total + torch.where(own == 0, 0.0, term)
    return total

# Right: torch's Gaussians and mixture arithmetic; covariances by torch.cov with weights.
def energies(y, weights, means, covariances):
    parts = torch.distributions.MultivariateNormal(means.T, covariances)
    return -(parts.log_prob(y.unsqueeze(-2)) + weights.log())


def e_step(y, weights, means, covariances):
    E = energies(y, weights, means, covariances)
    F = -torch.logsumexp(-E, dim=-1)
    return F, torch.exp(F.unsqueeze(-1) - E)


def m_step(y, r, floor=1e-6):
    D, K = y.shape[1], r.shape[1]
    means = torch.stack([(r[:, k : k + 1] * y).sum(0) / r[:, k].sum() for k in range(K)])
    parts = []
    for k in range(K):
        away = y - means[k]
        parts.append(away.T @ (r[:, k : k + 1] * away) / r[:, k].sum())
    return r.mean(0), means.T, torch.stack(parts) + floor * torch.eye(D, dtype=y.dtype)


def bound(y, r, weights, means, covariances):
    E = energies(y, weights, means, covariances)
    terms = torch.where(r > 0, r * (E + r.log()), torch.zeros_like(r))
    return terms.sum(-1)

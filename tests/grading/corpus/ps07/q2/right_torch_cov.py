# Right: torch.cov and its diagonal for everything.
def cov(z):
    return torch.cov(z.T).reshape(z.shape[1], z.shape[1])


def variance_hinge(z, gamma=1.0, eps=1e-4):
    return torch.nn.functional.relu(gamma - torch.sqrt(cov(z).diagonal() + eps)).mean()


def covariance_squares(z):
    C = cov(z)
    return C[~torch.eye(len(C), dtype=torch.bool)].pow(2).sum() / len(C)


def vicreg(z1, z2, invariance=25.0, variance=25.0, covariance=1.0):
    loss = invariance * torch.nn.functional.mse_loss(z1, z2)
    loss = loss + variance * (variance_hinge(z1) / 2 + variance_hinge(z2) / 2)
    return loss + covariance * (covariance_squares(z1) + covariance_squares(z2))


def barlow_twins(z1, z2, redundancy=0.005, eps=1e-5):
    D = z1.shape[1]
    both = torch.cov(torch.cat([z1, z2], 1).T, correction=0)
    sd = torch.sqrt(both.diagonal() + eps)
    R = both[:D, D:] / sd[:D, None] / sd[None, D:]
    weight = torch.full_like(R, redundancy).fill_diagonal_(1.0)
    return (weight * (R - torch.eye(D, dtype=R.dtype)) ** 2).sum()

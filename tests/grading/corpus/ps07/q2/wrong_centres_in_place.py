# Wrong: centres the caller's batch. Loses q2_a, q2_d.
def variance_hinge(z, gamma=1.0, eps=1e-4):
    std = torch.sqrt(z.var(dim=0) + eps)
    return torch.relu(gamma - std).mean()


def covariance_squares(z):
    N = len(z)
    with torch.no_grad():
        z -= z.mean(dim=0)
    cov = z.T @ z / (N - 1)
    off = cov - torch.diag(torch.diag(cov))
    return (off**2).sum() / z.shape[1]


def vicreg(z1, z2, invariance=25.0, variance=25.0, covariance=1.0):
    pull = torch.nn.functional.mse_loss(z1, z2)
    spread = variance_hinge(z1) + variance_hinge(z2)
    common = covariance_squares(z1) + covariance_squares(z2)
    return invariance * pull + variance * spread / 2 + covariance * common


def barlow_twins(z1, z2, redundancy=0.005, eps=1e-5):
    N = len(z1)
    a = (z1 - z1.mean(0)) / torch.sqrt(z1.var(0, unbiased=False) + eps)
    b = (z2 - z2.mean(0)) / torch.sqrt(z2.var(0, unbiased=False) + eps)
    R = a.T @ b / N
    on = torch.diag(R)
    off = (R**2).sum() - (on**2).sum()
    return ((1 - on) ** 2).sum() + redundancy * off

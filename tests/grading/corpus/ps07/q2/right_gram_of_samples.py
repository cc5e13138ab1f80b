# Right: ‖ZᵀZ‖² = ‖ZZᵀ‖²: N × N products in place of D × D.
def variance_hinge(z, gamma=1.0, eps=1e-4):
    return torch.clamp_min(gamma - torch.var(z, dim=0, correction=1).add(eps).sqrt(), 0.0).mean()


def covariance_squares(z):
    away = z - z.mean(0, keepdim=True)
    gram = away @ away.T / (len(z) - 1)
    own = away.square().sum(0) / (len(z) - 1)
    return (gram.square().sum() - own.square().sum()) / z.size(1)


def vicreg(z1, z2, invariance=25.0, variance=25.0, covariance=1.0):
    hinge = (variance_hinge(z1) + variance_hinge(z2)) * 0.5
    return torch.stack(
        [
            invariance * torch.square(z1 - z2).mean(),
            variance * hinge,
            covariance * covariance_squares(z1),
            covariance * covariance_squares(z2),
        ]
    ).sum()


def barlow_twins(z1, z2, redundancy=0.005, eps=1e-5):
    n = len(z1)
    a, b = z1 - z1.mean(0), z2 - z2.mean(0)
    a = a * (a.square().mean(0) + eps).rsqrt()
    b = b * (b.square().mean(0) + eps).rsqrt()
    diagonal = (a * b).mean(0)
    squares = ((a @ a.T) * (b @ b.T)).sum() / n**2
    return (diagonal - 1).square().sum() + redundancy * (squares - diagonal.square().sum())

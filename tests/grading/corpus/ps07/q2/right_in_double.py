# Right: in float64, and back.
def variance_hinge(z, gamma=1.0, eps=1e-4):
    x = z.double()
    return (gamma - (x.var(0) + eps).sqrt()).clamp(min=0).mean().to(z.dtype)


def covariance_squares(z):
    x = z.double()
    x = x - x.mean(0)
    C = x.T @ x / (len(x) - 1)
    C = torch.triu(C, 1)
    return (2 * C.square().sum() / z.shape[1]).to(z.dtype)


def vicreg(z1, z2, invariance=25.0, variance=25.0, covariance=1.0):
    a, b = z1.double(), z2.double()
    near = invariance * (a - b).square().mean()
    alive = variance / 2 * (variance_hinge(a) + variance_hinge(b))
    apart = covariance * (covariance_squares(a) + covariance_squares(b))
    return (near + alive + apart).to(z1.dtype)


def barlow_twins(z1, z2, redundancy=0.005, eps=1e-5):
    parts = []
    for z in (z1.double(), z2.double()):
        away = z - z.mean(0)
        parts.append(away / (away.square().mean(0) + eps).sqrt())
    R = parts[0].T @ parts[1] / len(z1)
    target = torch.eye(len(R), dtype=R.dtype)
    squares = (R - target).square()
    return (squares.diag().sum() * (1 - redundancy) + squares.sum() * redundancy).to(z1.dtype)

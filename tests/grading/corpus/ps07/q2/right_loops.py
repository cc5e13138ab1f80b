# Right: variable by variable, pair by pair.
def flat(column):
    return column - column.mean()


def variance_hinge(z, gamma=1.0, eps=1e-4):
    N, D = z.shape
    total = 0.0
    for j in range(D):
        x = flat(z[:, j])
        std = (x.dot(x) / (N - 1) + eps) ** 0.5
        total = total + torch.clamp(gamma - std, min=0)
    return total / D


def covariance_squares(z):
    N, D = z.shape
    total = z.new_zeros(())
    for i in range(D):
        for j in range(D):
            if i != j:
                total = total + (flat(z[:, i]).dot(flat(z[:, j])) / (N - 1)) ** 2
    return total / D


def vicreg(z1, z2, invariance=25.0, variance=25.0, covariance=1.0):
    N, D = z1.shape
    loss = 0.0
    for a, b in zip(z1, z2):
        loss = loss + invariance * ((a - b) ** 2).sum() / (N * D)
    for z in (z1, z2):
        loss = loss + variance / 2 * variance_hinge(z) + covariance * covariance_squares(z)
    return loss


def barlow_twins(z1, z2, redundancy=0.005, eps=1e-5):
    N, D = z1.shape
    loss = 0.0
    for i in range(D):
        for j in range(D):
            x, y = flat(z1[:, i]), flat(z2[:, j])
            c = x.dot(y) / N / torch.sqrt((x.dot(x) / N + eps) * (y.dot(y) / N + eps))
            loss = loss + ((1 - c) ** 2 if i == j else redundancy * c**2)
    return loss

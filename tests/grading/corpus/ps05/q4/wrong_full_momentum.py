# Wrong: all of the last move is repeated. Loses q4_a, q4_c, q4_d.
def shrink(u, threshold):
    return u.sign() * torch.relu(u.abs() - threshold)


def slope(z, y, W):
    return 2 * (z @ W.T - y) @ W


def ista_step(z, y, W, lam):
    eta = 1 / (2 * torch.linalg.matrix_norm(W, 2) ** 2)
    return shrink(z - eta * slope(z, y, W), lam * eta)


def fista(y, W, lam, steps):
    z = v = y.new_zeros(*y.shape[:-1], W.shape[1])
    t = 1.0
    for _ in range(steps):
        new = ista_step(v, y, W, lam)
        t_new = (1 + math.sqrt(1 + 4 * t**2)) / 2
        v = new + (new - z)
        z, t = new, t_new
    return z


def violation(z, y, W, lam):
    g = slope(z, y, W)
    active = (g + lam * z.sign()).abs()
    return torch.where(z == 0, torch.relu(g.abs() - lam), active).amax(-1)

# Wrong: takes the factor 2 into the step, as on the slide, and the whole price. Loses q4_a, q4_b, q4_c, q4_d.
def shrink(u, threshold):
    t = torch.as_tensor(threshold, dtype=u.dtype)
    return u - torch.maximum(torch.minimum(u, t), -t)


def violation(z, y, W, lam):
    g = 2 * (z @ W.T - y) @ W
    worst = torch.where(z > 0, (g + lam).abs(), (g.abs() - lam).clamp(min=0))
    worst = torch.where(z < 0, (g - lam).abs(), worst)
    return worst.max(-1).values


def ista_step(z, y, W, lam):
    eta = 1 / torch.linalg.matrix_norm(W, 2) ** 2  # as on the slide
    return shrink(z - eta * (z @ W.T - y) @ W, lam * eta)


def fista(y, W, lam, steps):
    z = v = y.new_zeros(*y.shape[:-1], W.shape[1])
    t = 1.0
    for _ in range(steps):
        new = ista_step(v, y, W, lam)
        t_new = (1 + math.sqrt(1 + 4 * t**2)) / 2
        v = new + (t - 1) / t_new * (new - z)
        z, t = new, t_new
    return z

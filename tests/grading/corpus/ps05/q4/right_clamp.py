# Right: what is beyond a clamp; the step from eigenvalues; momentum written with two codes; masks.
def shrink(u, threshold):
    t = torch.as_tensor(threshold, dtype=u.dtype)
    return u - torch.maximum(torch.minimum(u, t), -t)


def ista_step(z, y, W, lam):
    size = 0.5 / torch.linalg.eigvalsh(W.T @ W).max()
    rest = y - torch.einsum("dk,...k->...d", W, z)
    return shrink(z + 2 * size * torch.einsum("dk,...d->...k", W, rest), lam * size)


def fista(y, W, lam, steps):
    older = newer = torch.zeros(y.shape[:-1] + W.shape[1:], dtype=y.dtype)
    t_old = t = 1.0
    for k in range(steps):
        push = 0.0 if k == 0 else (t_old - 1) / t
        ahead = newer + push * (newer - older)
        older, newer = newer, ista_step(ahead, y, W, lam)
        t_old, t = t, (1 + (1 + 4 * t**2) ** 0.5) / 2
    return newer


def violation(z, y, W, lam):
    g = 2 * (z @ W.T - y) @ W
    worst = torch.where(z > 0, (g + lam).abs(), (g.abs() - lam).clamp(min=0))
    worst = torch.where(z < 0, (g - lam).abs(), worst)
    return worst.max(-1).values

# Right: one sample after another; the slope by autograd; where and sign.
def shrink(u, threshold):
    return torch.where(u.abs() > threshold, u - threshold * torch.sign(u), 0.0 * u)


def flat(f, z, y):
    codes = z.reshape(-1, z.shape[-1])
    points = y.reshape(-1, y.shape[-1])
    return torch.stack([f(a, b) for a, b in zip(codes, points)])


def ista_step(z, y, W, lam):
    eta = 1 / (2 * torch.linalg.norm(W, ord=2) ** 2)
    new = flat(lambda a, b: shrink(a - 2 * eta * W.T @ (W @ a - b), lam * eta), z, y)
    return new.reshape(z.shape)


def fista(y, W, lam, steps):
    z = v = torch.zeros(*y.shape[:-1], W.shape[1], dtype=y.dtype)
    t = 1.0
    while steps > 0:
        last, z = z, ista_step(v, y, W, lam)
        t, before = (1 + math.sqrt(1 + 4 * t * t)) / 2, t
        v = z + (before - 1) / t * (z - last)
        steps -= 1
    return z


def one_violation(code, point, W, lam):
    code = code.detach().clone().requires_grad_()
    (g,) = torch.autograd.grad((point - W @ code).square().sum(), code)
    worst = code.new_zeros(())
    for gi, zi in zip(g, code.detach()):
        here = abs(gi + lam * zi.sign()) if zi != 0 else (abs(gi) - lam).clamp(min=0)
        worst = torch.maximum(worst, here)
    return worst


def violation(z, y, W, lam):
    return flat(lambda a, b: one_violation(a, b, W, lam), z, y).reshape(z.shape[:-1])

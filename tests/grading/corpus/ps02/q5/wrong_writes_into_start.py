# Wrong: the caller's start ends at the answer. Loses q5_b.
def fit_ellipse(y, beta, start):
    z = torch.arange(120, dtype=y.dtype) * (2 * math.pi / 120)
    circle = torch.stack([z.sin(), z.cos()], -1)
    for _ in range(200):
        r = start.detach().clone().requires_grad_()
        energy = (y[:, None] - r * circle).square().sum(-1)
        F = energy.amin(1) if math.isinf(beta) else -torch.logsumexp(-beta * energy, 1) / beta
        start -= 0.8 * torch.autograd.grad(F.mean(), r)[0]
    return start.abs()

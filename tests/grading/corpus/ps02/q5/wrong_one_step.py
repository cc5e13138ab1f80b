# Wrong: a single step of descent, far from the minimum. Loses q5_a, q5_b, q5_c.
def fit_ellipse(y, beta, start):
    z = torch.arange(120, dtype=y.dtype) * (2 * math.pi / 120)
    circle = torch.stack([z.sin(), z.cos()], -1)
    r = start.detach().clone().requires_grad_()
    energy = (y[:, None] - r * circle).square().sum(-1)
    F = energy.amin(1) if math.isinf(beta) else -torch.logsumexp(-beta * energy, 1) / beta
    (gradient,) = torch.autograd.grad(F.mean(), r)
    return (r.detach() - 0.1 * gradient).abs()

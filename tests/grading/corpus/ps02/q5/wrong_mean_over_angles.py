# Wrong: minimises the mean energy over all angles: the ellipse collapses to a point. Loses q5_a, q5_b, q5_c.
def fit_ellipse(y, beta, start):
    z = torch.arange(120, dtype=y.dtype) * (2 * math.pi / 120)
    circle = torch.stack([z.sin(), z.cos()], -1)
    r = start.detach().clone()
    for _ in range(300):
        r.requires_grad_()
        loss = (y[:, None] - r * circle).square().sum(-1).mean()
        (gradient,) = torch.autograd.grad(loss, r)
        r = r.detach() - 0.5 * gradient
    return r.abs()

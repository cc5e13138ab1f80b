# Right: gradient descent in z from 16 starts with a step size that fits the curvature, then the best start.
def infer_angle(y, r1, r2):
    target = y.detach().unsqueeze(-2)
    z = torch.arange(16, dtype=y.dtype)[:, None] * (2 * math.pi / 16) + 0.01
    z = z.expand(*y.shape[:-1], 16, 1).clone()
    r = max(r1, r2)
    lr = 1 / (2 * r * (r + target.norm(dim=-1, keepdim=True)))
    for _ in range(400):
        z.requires_grad_()
        (slope,) = torch.autograd.grad(ellipse_energy(target, z, r1, r2).sum(), z)
        z = z.detach() - lr * slope
    best = ellipse_energy(target, z, r1, r2).argmin(-1)
    z = z.gather(-2, best[..., None, None]).squeeze(-2)
    return z, ellipse_energy(y, z, r1, r2)

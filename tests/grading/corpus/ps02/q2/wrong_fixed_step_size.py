# Wrong: several starts, but one step size for all ellipses: it jumps about on the large ones. Loses q2_b.
def infer_angle(y, r1, r2):
    target = y.detach().unsqueeze(-2)
    z = (torch.arange(12, dtype=y.dtype)[:, None] * (2 * math.pi / 12) + 0.01).expand(*y.shape[:-1], 12, 1).clone()
    for _ in range(300):
        z.requires_grad_()
        (slope,) = torch.autograd.grad(ellipse_energy(target, z, r1, r2).sum(), z)
        z = z.detach() - 0.1 * slope
    best = ellipse_energy(target, z, r1, r2).argmin(-1)
    z = z.gather(-2, best[..., None, None]).squeeze(-2)
    return z, ellipse_energy(y, z, r1, r2)

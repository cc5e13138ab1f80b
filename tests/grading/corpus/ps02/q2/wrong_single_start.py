# Wrong: one descent from z = 1: ends in the wrong valley for many y. Loses q2_b.
def infer_angle(y, r1, r2):
    z = torch.full((*y.shape[:-1], 1), 1.0, dtype=y.dtype)
    r = max(r1, r2)
    target = y.detach()
    lr = 1 / (2 * r * (r + target.norm(dim=-1, keepdim=True)))
    for _ in range(500):
        z.requires_grad_()
        (slope,) = torch.autograd.grad(ellipse_energy(target, z, r1, r2).sum(), z)
        z = z.detach() - lr * slope
    return z, ellipse_energy(y, z, r1, r2)

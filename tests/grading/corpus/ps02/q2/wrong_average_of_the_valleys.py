# Wrong: averages the angles that several starts end in; the mean of two valleys is a ridge. Loses q2_a, q2_b, q2_c.
def infer_angle(y, r1, r2):
    target = y.detach().unsqueeze(-2)
    z = (torch.arange(8, dtype=y.dtype)[:, None] * (2 * math.pi / 8) + 0.01).expand(*y.shape[:-1], 8, 1).clone()
    r = max(r1, r2)
    lr = 1 / (2 * r * (r + target.norm(dim=-1, keepdim=True)))
    for _ in range(300):
        z.requires_grad_()
        (slope,) = torch.autograd.grad(ellipse_energy(target, z, r1, r2).sum(), z)
        z = z.detach() - lr * slope
    z = z.mean(-2)
    return z, ellipse_energy(y, z, r1, r2)

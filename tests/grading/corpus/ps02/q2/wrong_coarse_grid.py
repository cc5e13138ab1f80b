# Wrong: twelve angles and no refinement. Loses q2_a, q2_b, q2_c.
def infer_angle(y, r1, r2):
    angles = torch.arange(12, dtype=y.dtype)[:, None] * (2 * math.pi / 12)
    z = angles[ellipse_energy(y.unsqueeze(-2), angles, r1, r2).argmin(-1)]
    return z, ellipse_energy(y, z, r1, r2)

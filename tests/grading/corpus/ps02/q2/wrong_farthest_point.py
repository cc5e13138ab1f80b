# Wrong: maximises the energy. Loses q2_a, q2_b, q2_c.
def infer_angle(y, r1, r2):
    angles = torch.linspace(0, 2 * math.pi, 2001, dtype=y.dtype)[:, None]
    z = angles[ellipse_energy(y.unsqueeze(-2), angles, r1, r2).argmax(-1)]
    return z, ellipse_energy(y, z, r1, r2)

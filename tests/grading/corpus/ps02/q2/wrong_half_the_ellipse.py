# Wrong: searches angles from 0 to π only, half of the ellipse. Loses q2_a, q2_b.
def infer_angle(y, r1, r2):
    angles = torch.linspace(0, math.pi, 2001, dtype=y.dtype)[:, None]
    z = angles[ellipse_energy(y.unsqueeze(-2), angles, r1, r2).argmin(-1)]
    return z, ellipse_energy(y, z, r1, r2)

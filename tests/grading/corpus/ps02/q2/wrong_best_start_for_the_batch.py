# Wrong: keeps the start that is best on average, one for the whole batch. Loses q2_a, q2_b.
def infer_angle(y, r1, r2):
    angles = torch.linspace(0, 2 * math.pi, 2001, dtype=y.dtype)[:, None]
    values = ellipse_energy(y.unsqueeze(-2), angles, r1, r2)
    best = values.reshape(-1, 2001).mean(0).argmin()
    z = angles[best].expand(*y.shape[:-1], 1)
    return z, ellipse_energy(y, z, r1, r2)

# Wrong: measures the angle from the first axis. Loses q2_a, q2_b, q2_c.
def infer_angle(y, r1, r2):
    angles = torch.linspace(0, 2 * math.pi, 4097, dtype=y.dtype)[:-1]
    values = (y[..., :1] - r1 * angles.cos()).square() + (y[..., 1:] - r2 * angles.sin()).square()
    energy, index = values.min(-1)
    return angles[index].unsqueeze(-1), energy

# Right: a fine grid alone, 4096 angles; exhaustive inference.
def infer_angle(y, r1, r2):
    angles = torch.linspace(0, 2 * math.pi, 4097, dtype=y.dtype)[:-1, None]
    with torch.no_grad():
        index = ellipse_energy(y.unsqueeze(-2), angles, r1, r2).argmin(-1)
    z = angles[index]
    return z, ellipse_energy(y, z, r1, r2)

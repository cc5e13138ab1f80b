# Wrong: the energy is computed under no_grad, so nothing flows back to y. Loses q2_c.
def infer_angle(y, r1, r2):
    with torch.no_grad():
        angles = torch.linspace(0, 2 * math.pi, 4097, dtype=y.dtype)[:-1, None]
        z = angles[ellipse_energy(y.unsqueeze(-2), angles, r1, r2).argmin(-1)]
        return z, ellipse_energy(y, z, r1, r2)

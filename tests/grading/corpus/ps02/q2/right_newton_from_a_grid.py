# Right: a coarse grid, then Newton steps by hand, kept only where they lower the energy.
def infer_angle(y, r1, r2):
    with torch.no_grad():
        grid = torch.arange(360, dtype=y.dtype) * (2 * math.pi / 360)
        y1, y2 = y[..., 0], y[..., 1]
        values = (y1[..., None] - r1 * grid.sin()) ** 2 + (y2[..., None] - r2 * grid.cos()) ** 2
        z = grid[values.argmin(-1)]
        energy = values.amin(-1)
        for _ in range(8):
            s, c = z.sin(), z.cos()
            first = -2 * r1 * c * (y1 - r1 * s) + 2 * r2 * s * (y2 - r2 * c)
            second = 2 * r1 * s * (y1 - r1 * s) + 2 * r1**2 * c**2 + 2 * r2 * c * (y2 - r2 * c) + 2 * r2**2 * s**2
            new = torch.where(second > 1e-9, z - first / second.clamp_min(1e-9), z)
            lower = (y1 - r1 * new.sin()) ** 2 + (y2 - r2 * new.cos()) ** 2
            z, energy = torch.where(lower < energy, new, z), torch.minimum(energy, lower)
    z = z.unsqueeze(-1)
    return z, ellipse_energy(y, z, r1, r2)

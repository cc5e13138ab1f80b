# Right: one y after the other, golden sections around the best of 90 angles.
def infer_angle(y, r1, r2):
    flat = y.reshape(-1, 2)
    angles = []
    for p1, p2 in flat.detach().tolist():

        def energy(z):
            return (p1 - r1 * math.sin(z)) ** 2 + (p2 - r2 * math.cos(z)) ** 2

        step = 2 * math.pi / 90
        best = min((k * step for k in range(90)), key=energy)
        low, high = best - step, best + step
        for _ in range(40):
            a, b = low + 0.382 * (high - low), low + 0.618 * (high - low)
            if energy(a) < energy(b):
                high = b
            else:
                low = a
        angles.append((low + high) / 2)
    z = torch.tensor(angles, dtype=y.dtype).reshape(*y.shape[:-1], 1)
    return z, ellipse_energy(y, z, r1, r2)

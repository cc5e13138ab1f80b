# Right: posterior of the angle and radii in closed form, in turns (EM).
def fit_ellipse(y, beta, start):
    z = torch.arange(200, dtype=y.dtype) * (2 * math.pi / 200)
    s, c = z.sin(), z.cos()
    r1, r2 = start.to(y.dtype)
    for _ in range(200):
        energy = (y[:, :1] - r1 * s) ** 2 + (y[:, 1:] - r2 * c) ** 2
        if math.isinf(beta):
            posterior = torch.nn.functional.one_hot(energy.argmin(1), 200).to(y.dtype)
        else:
            posterior = torch.softmax(-beta * energy, 1)
        r1 = (posterior * y[:, :1] * s).sum() / (posterior * s**2).sum()
        r2 = (posterior * y[:, 1:] * c).sum() / (posterior * c**2).sum()
    return torch.stack([r1, r2]).abs()

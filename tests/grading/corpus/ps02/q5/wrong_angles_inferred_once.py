# Wrong: infers the angles at the start and never again. Loses q5_a, q5_b, q5_c.
def fit_ellipse(y, beta, start):
    z = torch.arange(120, dtype=y.dtype) * (2 * math.pi / 120)
    circle = torch.stack([z.sin(), z.cos()], -1)
    energy = (y[:, None] - start * circle).square().sum(-1)
    if math.isinf(beta):
        posterior = torch.nn.functional.one_hot(energy.argmin(1), 120).to(y.dtype)
    else:
        posterior = torch.softmax(-beta * energy, 1)
    return torch.einsum("nk,nd,kd->d", posterior, y, circle) / torch.einsum("nk,kd->d", posterior, circle.square())

# Wrong: uses the angle at which each point is seen from the centre. Loses q5_a, q5_b, q5_c.
def fit_ellipse(y, beta, start):
    z = torch.atan2(y[:, 0], y[:, 1])
    circle = torch.stack([z.sin(), z.cos()], -1)
    return (y * circle).sum(0) / circle.square().sum(0)

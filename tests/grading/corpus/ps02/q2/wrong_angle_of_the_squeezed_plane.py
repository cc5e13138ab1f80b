# Wrong: squeezes the ellipse into a circle and takes the angle there; nearest points do not survive. Loses q2_a, q2_b.
def infer_angle(y, r1, r2):
    z = torch.atan2(y[..., :1] / r1, y[..., 1:] / r2).detach()
    return z, ellipse_energy(y, z, r1, r2)

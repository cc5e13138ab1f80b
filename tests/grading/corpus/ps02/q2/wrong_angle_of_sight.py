# Wrong: takes the angle at which y is seen from the centre; right on a circle only. Loses q2_a, q2_b.
def infer_angle(y, r1, r2):
    z = torch.atan2(y[..., :1], y[..., 1:]).detach()
    return z, ellipse_energy(y, z, r1, r2)

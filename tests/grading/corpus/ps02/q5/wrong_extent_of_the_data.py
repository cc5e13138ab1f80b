# Wrong: no inference at all: the largest coordinates are taken for the radii. Loses q5_b, q5_c.
def fit_ellipse(y, beta, start):
    return y.abs().amax(0)

# Wrong: never moves. Loses q5_a, q5_b, q5_c.
def fit_ellipse(y, beta, start):
    return start.detach().clone()

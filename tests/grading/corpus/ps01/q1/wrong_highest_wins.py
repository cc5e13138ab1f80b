# Wrong: takes an energy for a score and looks for the maximum. Loses q1_a, q1_b, q1_c.
def exhaustive(energy, x, candidates, tol=0.0):
    values = energy(x.unsqueeze(-2), candidates)
    highest, index = values.max(dim=-1)
    return index, highest, values >= (highest - tol).unsqueeze(-1)

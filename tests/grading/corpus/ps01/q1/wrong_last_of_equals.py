# Wrong: of candidates that tie it returns the last (<= instead of < in the loop). Loses q1_a, q1_b.
def exhaustive(energy, x, candidates, tol=0.0):
    values = energy(x.unsqueeze(-2), candidates)
    flipped = values.flip(-1)
    lowest, index = flipped.min(dim=-1)
    return candidates.shape[0] - 1 - index, lowest, values <= (lowest + tol).unsqueeze(-1)

# Wrong: one best candidate for the whole batch instead of one for each x. Loses q1_a, q1_b, q1_c.
def exhaustive(energy, x, candidates, tol=0.0):
    values = energy(x.unsqueeze(-2), candidates)
    best = values.reshape(-1, candidates.shape[0]).sum(0).argmin()
    lowest = values[..., best]
    index = torch.full(x.shape[:-1], int(best))
    return index, lowest, values <= (lowest + tol).unsqueeze(-1)

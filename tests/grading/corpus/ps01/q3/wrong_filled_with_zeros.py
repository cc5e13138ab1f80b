# Wrong: fills the holes with zeros and does not search. Loses q3_a, q3_b, q3_c.
def complete(energy, y, known, steps, lr):
    return torch.where(known.expand_as(y), y, 0.0)

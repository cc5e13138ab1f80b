# Wrong: a policy for errands: no search. Loses q4_a, q4_b, q4_c, q4_d.
def plan(energy, start, low, high, generator):
    best = start.clamp(low, high)
    E = energy(best[None])[0]
    for x in (low, 0.0, high):
        for y in (low, 0.0, high):
            one = torch.tensor([x, y], dtype=start.dtype)[: start.shape[-1]]
            new = one.expand_as(start).clamp(low, high) if start.shape[-1] == 2 else best
            value = energy(new[None])[0]
            best = torch.where((value < E)[:, None, None], new, best)
            E = torch.minimum(E, value)
    return best

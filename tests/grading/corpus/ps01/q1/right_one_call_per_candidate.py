# Right: one call of the energy per candidate, stacked, then argmin and gather.
def exhaustive(energy, x, candidates, tol=0.0):
    values = torch.stack([energy(x, candidates[k]) for k in range(candidates.shape[0])], dim=-1)
    index = torch.argmin(values, dim=-1)
    lowest = torch.gather(values, -1, index.unsqueeze(-1)).squeeze(-1)
    solutions = torch.zeros_like(values, dtype=torch.bool)
    for k in range(candidates.shape[0]):
        solutions[..., k] = values[..., k] <= lowest + tol
    return index, lowest, solutions

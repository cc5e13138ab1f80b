# Right: a loop over the samples and one over the candidates, flattened and reshaped.
def exhaustive(energy, x, candidates, tol=0.0):
    lead = x.shape[:-1]
    index, lowest, solutions = [], [], []
    for sample in x.reshape(-1, x.shape[-1]):
        values = torch.stack([energy(sample, candidate) for candidate in candidates])
        best = 0
        for k in range(1, len(values)):
            if values[k] < values[best]:
                best = k
        index.append(best)
        lowest.append(values[best])
        solutions.append(values <= values[best] + tol)
    return (
        torch.tensor(index).reshape(lead),
        torch.stack(lowest).reshape(lead),
        torch.stack(solutions).reshape(*lead, len(candidates)),
    )

# Right: z is moved to the end and each row of energies treated by itself, impossible values of z left out.
def free_energy(energy, beta, dim=-1, log_prior=None):
    if not beta > 0:
        raise ValueError("beta must be > 0")
    prior = torch.zeros_like(energy) if log_prior is None else log_prior.expand_as(energy)
    rows, weights = energy.movedim(dim, -1), prior.movedim(dim, -1)
    lead, k = rows.shape[:-1], rows.shape[-1]
    result = []
    for row, weight in zip(rows.reshape(-1, k), weights.reshape(-1, k)):
        row, weight = row[weight > -math.inf], weight[weight > -math.inf]
        result.append(row.min() if beta == math.inf else torch.logsumexp(weight - beta * row, 0) / -beta)
    return torch.stack(result).reshape(lead)

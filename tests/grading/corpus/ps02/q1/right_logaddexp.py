# Right: z after z with the log-add-exp of two numbers, z moved to the front.
def free_energy(energy, beta, dim=-1, log_prior=None):
    if not beta > 0:
        raise ValueError("beta must be positive")
    energy = energy.movedim(dim, 0)
    if log_prior is None:
        prior = torch.zeros_like(energy)
    else:
        prior = log_prior.expand(energy.movedim(0, dim).shape).movedim(dim, 0)
    if beta == float("inf"):
        lowest = torch.full_like(energy[0], math.inf)
        for values, weights in zip(energy, prior):
            lowest = torch.minimum(lowest, torch.where(weights == -math.inf, math.inf, values))
        return lowest
    total = torch.full_like(energy[0], -math.inf)
    for values, weights in zip(energy, prior):
        term = weights - beta * values
        possible = term > -math.inf
        total = torch.where(possible, torch.logaddexp(total, torch.where(possible, term, 0.0)), total)
    return -total / beta

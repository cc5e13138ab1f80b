# Wrong: averages over z even without a prior (log-mean-exp). Loses q1_a, q1_b.
def free_energy(energy, beta, dim=-1, log_prior=None):
    if not beta > 0:
        raise ValueError("beta must be positive")
    if log_prior is None:
        log_prior = torch.tensor(-math.log(energy.shape[dim]))
    weight = log_prior.expand_as(energy)
    if math.isinf(beta):
        return torch.where(weight > -math.inf, energy, math.inf).amin(dim)
    return -torch.logsumexp(weight - beta * energy, dim) / beta

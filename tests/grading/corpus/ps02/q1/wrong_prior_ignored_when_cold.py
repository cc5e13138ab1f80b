# Wrong: at β = ∞ minimises over all z, those of prior probability 0 included. Loses q1_c.
def free_energy(energy, beta, dim=-1, log_prior=None):
    if not beta > 0:
        raise ValueError("beta must be positive")
    if math.isinf(beta):
        return energy.amin(dim)
    weight = torch.zeros_like(energy) if log_prior is None else log_prior
    return -torch.logsumexp(weight - beta * energy, dim) / beta

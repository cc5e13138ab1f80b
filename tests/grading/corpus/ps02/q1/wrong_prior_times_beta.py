# Wrong: treats log p(z) as an energy, so that β multiplies it. Loses q1_a, q1_c.
def free_energy(energy, beta, dim=-1, log_prior=None):
    if not beta > 0:
        raise ValueError("beta must be positive")
    if log_prior is not None:
        energy = energy - log_prior
    if math.isinf(beta):
        return energy.amin(dim)
    return -torch.logsumexp(-beta * energy, dim) / beta

# Wrong: returns the mean energy under the posterior and forgets the entropy. Loses q1_a, q1_b, q1_c.
def free_energy(energy, beta, dim=-1, log_prior=None):
    if not beta > 0:
        raise ValueError("beta must be positive")
    weight = torch.zeros_like(energy) if log_prior is None else log_prior.expand_as(energy)
    if math.isinf(beta):
        return torch.where(weight > -math.inf, energy, math.inf).amin(dim)
    posterior = torch.softmax(weight - beta * energy, dim)
    return (posterior * energy).sum(dim)

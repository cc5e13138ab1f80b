# Wrong: β = ∞ replaced by 1000, which is near the minimum but not there. Loses q1_b, q1_c.
def free_energy(energy, beta, dim=-1, log_prior=None):
    if not beta > 0:
        raise ValueError("beta must be positive")
    beta = min(beta, 1000.0)
    weight = 0.0 if log_prior is None else log_prior
    return -torch.logsumexp(weight - beta * energy, dim) / beta

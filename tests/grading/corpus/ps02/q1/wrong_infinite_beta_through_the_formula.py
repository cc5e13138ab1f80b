# Wrong: no case for β = ∞, where the formula gives nan. Loses q1_a, q1_b, q1_c.
def free_energy(energy, beta, dim=-1, log_prior=None):
    if not beta > 0:
        raise ValueError("beta must be positive")
    weight = 0.0 if log_prior is None else log_prior
    return -torch.logsumexp(weight - beta * energy, dim) / beta

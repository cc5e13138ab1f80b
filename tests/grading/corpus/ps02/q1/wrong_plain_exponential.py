# Wrong: exponentiates as it stands; over- and underflows when cold. Loses q1_b.
def free_energy(energy, beta, dim=-1, log_prior=None):
    if not beta > 0:
        raise ValueError("beta must be positive")
    p = 1.0 if log_prior is None else log_prior.exp()
    if math.isinf(beta):
        return torch.where(torch.as_tensor(p) > 0, energy, math.inf).amin(dim)
    return -torch.log((p * torch.exp(-beta * energy)).sum(dim)) / beta

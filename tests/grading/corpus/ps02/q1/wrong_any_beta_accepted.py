# Wrong: accepts β <= 0 and returns something. Loses q1_c.
def free_energy(energy, beta, dim=-1, log_prior=None):
    weight = torch.zeros_like(energy) if log_prior is None else log_prior.expand_as(energy)
    if beta == math.inf:
        return torch.where(weight > -math.inf, energy, math.inf).amin(dim)
    return -torch.logsumexp(weight - beta * energy, dim) / beta

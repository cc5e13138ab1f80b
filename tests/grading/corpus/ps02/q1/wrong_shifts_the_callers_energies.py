# Wrong: subtracts the lowest energy in place, from the caller's own tensor. Loses q1_a, q1_b.
def free_energy(energy, beta, dim=-1, log_prior=None):
    if not beta > 0:
        raise ValueError(f"beta must be positive, got {beta}")
    weight = torch.zeros_like(energy) if log_prior is None else log_prior.expand_as(energy)
    if math.isinf(beta):
        return torch.where(weight > -math.inf, energy, math.inf).amin(dim)
    if energy.requires_grad:
        return -torch.logsumexp(weight - beta * energy, dim) / beta
    lowest = energy.amin(dim, keepdim=True)
    energy -= lowest
    return lowest.squeeze(dim) - torch.logsumexp(weight - beta * energy, dim) / beta

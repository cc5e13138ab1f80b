# Right: subtracts the lowest energy by hand, sums plain exponentials, gives the constant back.
def free_energy(energy, beta, dim=-1, log_prior=None):
    if beta <= 0:
        raise ValueError(f"beta must be positive, got {beta}")
    if log_prior is not None:
        p = torch.exp(log_prior)
        energy = torch.where((p > 0).expand_as(energy), energy, torch.full_like(energy, math.inf))
    lowest = torch.amin(energy, dim=dim, keepdim=True)
    if beta == math.inf:
        return lowest.squeeze(dim)
    base = torch.where(torch.isinf(lowest), torch.zeros_like(lowest), lowest).detach()
    weight = torch.exp(-beta * (energy - base))
    if log_prior is not None:
        weight = weight * p
    return base.squeeze(dim) - torch.log(weight.sum(dim)) / beta

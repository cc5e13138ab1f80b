# Right: F = <E> - S/β under the posterior would lose digits, so log-sum-exp; β = ∞ by sorting.
def free_energy(energy, beta, dim=-1, log_prior=None):
    if beta <= 0:
        raise ValueError("beta")
    if log_prior is None:
        log_prior = torch.zeros((), dtype=energy.dtype)
    if math.isinf(beta):
        allowed = energy.masked_fill((log_prior == -math.inf).expand_as(energy), math.inf)
        return torch.sort(allowed, dim=dim).values.select(dim, 0)
    return (log_prior - beta * energy).logsumexp(dim).div(-beta)

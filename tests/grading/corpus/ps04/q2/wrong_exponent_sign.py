# Wrong: exp(+βE) in place of exp(−βE), so high energies are favoured.
def chain_free_energy(unary, pairwise, beta):
    """Free energy of all sequences: unary (..., T, K), pairwise (K, K) -> (...)."""
    F = unary[..., 0, :]
    for t in range(1, unary.shape[-2]):
        steps = F.unsqueeze(-1) + pairwise  # (..., from, to)
        F = _soft_minimum(steps, beta, -2) + unary[..., t, :]
    return _soft_minimum(F, beta, -1)


def _soft_minimum(energy, beta, dim):
    if math.isinf(beta):
        return energy.amin(dim)
    return -torch.logsumexp(beta * energy, dim) / beta


def label_marginals(unary, pairwise, beta):
    """How probable each label is at each place: unary (..., T, K) -> (..., T, K)."""
    with torch.enable_grad():
        leaf = unary.detach().requires_grad_()
        F = chain_free_energy(leaf, pairwise.detach(), beta)
        (used,) = torch.autograd.grad(F.sum(), leaf)
    return used

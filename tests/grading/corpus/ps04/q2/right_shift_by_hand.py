# Right: the minimum is subtracted before the exponential; marginals by autograd.
def chain_free_energy(unary, pairwise, beta):
    T = unary.shape[-2]

    def soft(E, dim):
        low = E.amin(dim, keepdim=True)
        if beta == math.inf:
            return low.squeeze(dim)
        low = low.detach()
        return low.squeeze(dim) - torch.exp(-beta * (E - low)).sum(dim).log() / beta

    F = unary.select(-2, 0)
    for t in range(1, T):
        F = soft(F[..., None] + pairwise + unary[..., t, None, :], -2)
    return soft(F, -1)


def label_marginals(unary, pairwise, beta):
    """How probable each label is at each place: unary (..., T, K) -> (..., T, K)."""
    with torch.enable_grad():
        leaf = unary.detach().requires_grad_()
        F = chain_free_energy(leaf, pairwise.detach(), beta)
        (used,) = torch.autograd.grad(F.sum(), leaf)
    return used

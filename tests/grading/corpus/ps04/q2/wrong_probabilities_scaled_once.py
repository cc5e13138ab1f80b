# Wrong: the smallest entry is subtracted once, then products of exponentials.
def chain_free_energy(unary, pairwise, beta):
    if math.isinf(beta):
        F = unary[..., 0, :]
        for t in range(1, unary.shape[-2]):
            F = (F.unsqueeze(-1) + pairwise).amin(-2) + unary[..., t, :]
        return F.amin(-1)
    low, T = unary.amin(), unary.shape[-2]
    step, w = torch.exp(-beta * pairwise), torch.exp(-beta * (unary - low))
    p = w[..., 0, :]
    for t in range(1, T):
        p = (p.unsqueeze(-2) @ step).squeeze(-2) * w[..., t, :]
    return low * T - p.sum(-1).log() / beta


def label_marginals(unary, pairwise, beta):
    """How probable each label is at each place: unary (..., T, K) -> (..., T, K)."""
    with torch.enable_grad():
        leaf = unary.detach().requires_grad_()
        F = chain_free_energy(leaf, pairwise.detach(), beta)
        (used,) = torch.autograd.grad(F.sum(), leaf)
    return used

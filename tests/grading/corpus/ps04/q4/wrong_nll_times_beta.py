# Wrong: the loss is multiplied by the inverse temperature.
def path_energy(unary, pairwise, labels, lengths):
    """Energy of given sequences.

    unary (B, T, K), pairwise (K, K), labels (B, T), lengths (B,) -> (B,)
    """
    real = _real(labels, lengths)
    y = labels.clamp(min=0)  # padding is -1: any label will do, it is masked below
    single = unary.gather(-1, y[..., None])[..., 0]
    pair = pairwise[y[:, :-1], y[:, 1:]]
    single = torch.where(real, single, torch.zeros_like(single)).sum(1)
    return single + torch.where(real[:, 1:], pair, torch.zeros_like(pair)).sum(1)


def _real(labels, lengths):
    return torch.arange(labels.shape[1], device=labels.device) < lengths[:, None]


def _lowest(unary, pairwise, lengths, beta):
    def soft(energies, dim):
        if math.isinf(beta):
            return energies.amin(dim)
        return -torch.logsumexp(-beta * energies, dim) / beta

    F = unary[:, 0]
    for t in range(1, unary.shape[1]):
        further = soft(F[:, :, None] + pairwise, 1) + unary[:, t]
        F = torch.where((t < lengths)[:, None], further, F)  # a finished row waits
    return soft(F, 1)


def hinge_loss(unary, pairwise, labels, lengths, margin=1.0):
    """Hinge with a margin for each wrong label -> (B,)."""
    wrong = labels[..., None] != torch.arange(unary.shape[-1], device=unary.device)
    rival = _lowest(unary - margin * wrong.to(unary), pairwise, lengths, math.inf)
    return path_energy(unary, pairwise, labels, lengths) - rival


def nll_loss(unary, pairwise, labels, lengths, beta=1.0):
    """Energy of the right sequences less the free energy of all -> (B,)."""
    free = _lowest(unary, pairwise, lengths, beta)
    return beta * (path_energy(unary, pairwise, labels, lengths) - free)

# Right: each loss is a (soft) maximum of E(y) - E(ŷ), by running differences.
def _worst(gain, pairwise, own, labels, lengths, soft):
    T = gain.shape[1]
    G = gain[:, 0]
    for t in range(1, T):
        y = labels[:, t - 1].clamp(min=0), labels[:, t].clamp(min=0)
        step = pairwise[y][:, None, None] - pairwise
        new = soft(G.unsqueeze(-1) + step, -2) + gain[:, t]
        G = torch.where((t < lengths).unsqueeze(-1), new, G)
    return soft(G, -1)


def path_energy(unary, pairwise, labels, lengths):
    total = 0
    for t in range(unary.shape[1]):
        y, on = labels[:, t].clamp(min=0), t < lengths
        term = unary[torch.arange(len(unary)), t, y]
        if t:
            term = term + pairwise[labels[:, t - 1].clamp(min=0), y]
        total = total + torch.where(on, term, 0.0)
    return total


def _gain(unary, labels):
    own = unary.gather(-1, labels.clamp(min=0).unsqueeze(-1))
    return own - unary, own


def hinge_loss(unary, pairwise, labels, lengths, margin=1.0):
    gain, own = _gain(unary, labels)
    wrong = torch.arange(unary.shape[-1]) != labels.unsqueeze(-1)
    return _worst(gain + margin * wrong, pairwise, own, labels, lengths, torch.amax)


def nll_loss(unary, pairwise, labels, lengths, beta=1.0):
    gain, own = _gain(unary, labels)
    return _worst(gain, pairwise, own, labels, lengths, lambda G, dim: torch.logsumexp(beta * G, dim) / beta)

# Right: messages of all places, the one at the length picked at the end.
def _ends(unary, pairwise, lengths, beta):
    def soft(E):
        return E.min(-1).values if beta == math.inf else torch.logsumexp(E * -beta, -1) / -beta

    F = [unary[:, 0]]
    for t in range(1, unary.shape[1]):
        F.append(soft(F[-1].unsqueeze(1) + pairwise.T) + unary[:, t])
    return soft(torch.stack(F, 1)[torch.arange(len(unary)), lengths - 1])


def path_energy(unary, pairwise, labels, lengths):
    T, K = unary.shape[1:]
    on = (torch.arange(T) < lengths[:, None]).to(unary)
    hot = torch.nn.functional.one_hot(labels.clamp(min=0), K).to(unary) * on[..., None]
    steps = torch.einsum("bti,btj,ij->b", hot[:, :-1], hot[:, 1:], pairwise)
    return (hot * unary).sum((1, 2)) + steps


def hinge_loss(unary, pairwise, labels, lengths, margin=1.0):
    miss = 1 - torch.nn.functional.one_hot(labels.clamp(min=0), unary.shape[-1]).to(unary)
    return path_energy(unary, pairwise, labels, lengths) - _ends(unary - margin * miss, pairwise, lengths, math.inf)


def nll_loss(unary, pairwise, labels, lengths, beta=1.0):
    return path_energy(unary, pairwise, labels, lengths) - _ends(unary, pairwise, lengths, beta)

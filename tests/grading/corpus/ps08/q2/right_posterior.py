# Right: mean energy and price under the posterior, masks of allowed values.
def infer(E):
    hard = E.amin(1)
    z = (E == hard[:, None]).int().argmax(1)
    return z, hard


def soft_free_energy(E, beta):
    p = torch.softmax(-beta * E.detach(), 1)
    # F = <E> + KL / beta, with the posterior held: by the envelope theorem its slope is right, too
    kl = (torch.special.xlogy(p, p * E.shape[1])).sum(1)
    return (p * E).sum(1) + kl / beta


def pair_energies(predictions, s_y):
    return (predictions[:, None] - s_y[:, None]).square().mean(-1)


def capacity(E):
    B, _, K = E.shape
    allowed = torch.ones(K, K, dtype=torch.bool).tril()
    best = E[:, :, None, :].masked_fill(~allowed, math.inf).amin(-1)
    i, j = torch.meshgrid(torch.arange(B), torch.arange(B), indexing="ij")
    return best[i == j].mean(0), best[i != j].mean(0)


def smallest_capacity(curve, error):
    never_yet = (curve > error).int().cumprod(0).sum().item()
    return never_yet + 1 if never_yet < len(curve) else 0

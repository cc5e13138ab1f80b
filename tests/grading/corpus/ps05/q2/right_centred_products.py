# Right: the square multiplied out, but about the prototypes' mean and in double precision.
def lloyd_step(y, W):
    centre = W.double().mean(1)
    a, b = y.double() - centre, W.T.double() - centre
    energy = b.square().sum(1) - 2 * a @ b.T
    codes = energy.argmin(1)
    share = torch.nn.functional.one_hot(codes, len(b)).double()
    n = share.sum(0)
    means = (share.T @ a) / n.clamp(min=1)[:, None]
    new = torch.where(n[:, None] > 0, means, b) + centre
    return codes, new.T.to(W.dtype)


def seed_probabilities(y, W):
    even = torch.full((len(y),), 1 / len(y), dtype=y.dtype)
    if W.shape[1] == 0:
        return even
    F = (y.double()[:, None] - W.double().T).pow(2).sum(-1).min(-1)[0]
    if F.max() == 0:
        return even
    return (F / F.sum()).to(y.dtype)

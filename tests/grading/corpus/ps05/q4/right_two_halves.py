# Right: shrinking as the difference of two positive parts; Gram matrix; the distance of -g to the price's slopes.
def shrink(u, threshold):
    return torch.relu(u - threshold) - torch.relu(-u - threshold)


def ista_step(z, y, W, lam):
    eta = 1 / (2 * torch.linalg.svdvals(W)[0].square())
    gram, pull = W.T @ W, y @ W
    return shrink(z - 2 * eta * (z @ gram - pull), lam * eta)


def fista(y, W, lam, steps):
    history = [torch.zeros(*y.shape[:-1], W.shape[1], dtype=y.dtype)]
    t = [1.0]
    ahead = history[0]
    for k in range(steps):
        history.append(ista_step(ahead, y, W, lam))
        t.append(0.5 * (1 + math.sqrt(1 + 4 * t[-1] ** 2)))
        ahead = history[-1] + (t[k] - 1) / t[k + 1] * (history[-1] - history[-2])
    return history[-1]


def violation(z, y, W, lam):
    g = 2 * (z @ W.T - y) @ W
    low = torch.where(z > 0, lam, -lam)  # the price's slopes at z: from low to high
    high = torch.where(z < 0, -lam, lam)
    gap = torch.maximum(low + g, -(high + g))
    return gap.clamp(min=0).amax(-1)

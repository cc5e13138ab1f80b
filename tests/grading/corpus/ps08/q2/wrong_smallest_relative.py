# Wrong: the error is taken relative to that of one value. Loses q2_f.
def infer(E):
    best = E.argmin(1)
    return best, E.gather(1, best[:, None])[:, 0]


def soft_free_energy(E, beta):
    least = E.detach().amin(1, keepdim=True)
    sums = torch.logsumexp(-beta * (E - least), 1) - math.log(E.shape[1])
    return least[:, 0] - sums / beta


def pair_energies(predictions, s_y):
    return (predictions[:, None] - s_y[:, None]).square().mean(-1)


def capacity(E):
    best = E.cummin(2).values
    same = torch.eye(len(E), dtype=torch.bool)
    return best[same].mean(0), best[~same].mean(0)


def smallest_capacity(curve, error):
    ok = (curve <= error * curve[0]).nonzero()
    return int(ok[0]) + 1 if len(ok) else 0

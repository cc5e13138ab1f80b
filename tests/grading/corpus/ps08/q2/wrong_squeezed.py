# Wrong: squeezes: one film is no batch any more. Loses q2_b.
def infer(E):
    z = E.argmin(1, keepdim=True)
    return z.squeeze(), E.gather(1, z).squeeze()


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
    enough = (curve <= error).nonzero()
    return int(enough[0]) + 1 if len(enough) else 0

# Right: torch.min and a sum less the diagonal.
def infer(E):
    least, z = E.min(dim=1)
    return z, least


def soft_free_energy(E, beta):
    least, _ = E.min(dim=1, keepdim=True)
    return least.squeeze(1) - torch.log(torch.exp(-beta * (E - least)).mean(1)) / beta


def pair_energies(predictions, s_y):
    B, K, D = predictions.shape
    return torch.sum((predictions.reshape(B, 1, K, D) - s_y.reshape(1, B, 1, D)) ** 2, -1) / D


def capacity(E):
    best, _ = torch.cummin(E, -1)
    B = E.shape[0]
    own = torch.diagonal(best, dim1=0, dim2=1).sum(1)
    return own / B, (best.sum((0, 1)) - own) / (B * B - B)


def smallest_capacity(curve, error):
    good = curve <= error
    return 0 if not good.any() else int(good.int().argmax()) + 1

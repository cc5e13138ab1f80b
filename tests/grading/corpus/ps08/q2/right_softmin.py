# Right: log-mean-exp of what is left, counted in the other direction.
def infer(E):
    z = (-E).argmax(dim=-1)
    return z, torch.take_along_dim(E, z.unsqueeze(-1), -1).squeeze(-1)


def soft_free_energy(E, beta):
    top = (-E).amax(-1, keepdim=True).detach()
    weight = torch.log_softmax((-E - top) * beta, -1)
    # F = E_k + log(posterior / prior) / beta for every k: take the best, where nothing is lost
    k = E.argmin(-1, keepdim=True)
    price = (weight + math.log(E.shape[-1])).gather(-1, k) / beta
    return (E.gather(-1, k) + price).squeeze(-1)


def pair_energies(predictions, s_y):
    futures = s_y.unsqueeze(1).unsqueeze(0).expand(len(s_y), -1, predictions.shape[1], -1)
    return torch.nn.functional.mse_loss(predictions.unsqueeze(1).expand_as(futures), futures, reduction="none").mean(-1)


def capacity(E):
    B, K = E.shape[0], E.shape[2]
    best = torch.stack([E[..., : k + 1].amin(-1) for k in range(K)], -1)
    eye = torch.eye(B, dtype=E.dtype)[..., None]
    return (best * eye).sum((0, 1)) / B, (best * (1 - eye)).sum((0, 1)) / (B * (B - 1))


def smallest_capacity(curve, error):
    return next((k for k in range(1, len(curve) + 1) if float(curve[k - 1]) <= error), 0)

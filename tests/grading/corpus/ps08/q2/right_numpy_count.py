# Right: what is needed counted from what is not enough; in double for the free energy.
import numpy as np


def infer(E):
    z = torch.from_numpy(np.argmin(E.detach().numpy(), axis=1))
    one = torch.nn.functional.one_hot(z, E.shape[1]).bool()
    return z, E[one]


def soft_free_energy(E, beta):
    e = E.double()
    low = e.min(1).values.detach()
    inside = ((low[:, None] - e) * beta).exp().sum(1)
    return (low + (math.log(E.shape[1]) - inside.log()) / beta).to(E.dtype)


def pair_energies(predictions, s_y):
    B, K, D = predictions.shape
    table = predictions.new_zeros(B, B, K)
    for d in range(D):
        table = table + (predictions[:, None, :, d] - s_y[None, :, None, d]).pow(2) / D
    return table


def capacity(E):
    B, K = len(E), E.shape[2]
    off = E.flatten(0, 1)[:-1].view(B - 1, B + 1, K)[:, 1:].flatten(0, 1)
    return E.diagonal().T.cummin(1).values.mean(0), off.cummin(1).values.mean(0)


def smallest_capacity(curve, error):
    values = curve.detach().numpy()
    places = np.flatnonzero(values <= error)
    return 1 + int(places[0]) if places.size else 0

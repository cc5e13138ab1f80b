# Right: einsum for the covariance, L1Loss for the price, a named tuple.
from collections import namedtuple

Terms = namedtuple("Terms", "loss prediction of_x of_y latent")


def information(s, variance=1.0, covariance=0.04):
    s = s.reshape(-1, s.shape[-1])
    s = s - s.mean(0, keepdim=True)
    n, D = s.shape
    C = torch.einsum("bi,bj->ij", s, s) / (n - 1)
    hinge = torch.clamp(1 - torch.sqrt(torch.einsum("ii->i", C) + 1e-4), min=0)
    mask = 1 - torch.eye(D, dtype=s.dtype)
    return variance * hinge.mean() / 2 + covariance * (C * mask).square().sum(1).mean()


def jepa(predicted, s_x, s_y, z, price, stop_gradient=False):
    aim = s_y
    if stop_gradient:
        aim = s_y.detach()
    mse = (predicted - aim).pow(2).sum(-1).mean() / s_y.shape[-1]
    said = 0 * mse.detach()
    if z is not None:
        said = price * z.shape[-1] * z.abs().mean()
    of_x, of_y = information(s_x), information(s_y)
    return Terms(mse + of_x + of_y + said, mse, of_x, of_y, said)


def target_path(start, weights, momenta):
    path = [start]
    for t in range(len(weights)):
        path.append(momenta[t] * path[-1] + (1 - momenta[t]) * weights[t])
    return torch.stack(path[1:]).detach()

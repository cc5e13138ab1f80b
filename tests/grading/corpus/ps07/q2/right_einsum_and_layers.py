# Right: einsum; batch normalisation from torch for Barlow Twins.
def variance_hinge(z, gamma=1.0, eps=1e-4):
    away = z - torch.einsum("bj->j", z) / len(z)
    var = torch.einsum("bj,bj->j", away, away) / (len(z) - 1)
    lack = gamma - (var + eps) ** 0.5
    return torch.where(lack > 0, lack, torch.zeros_like(lack)).mean()


def covariance_squares(z):
    away = z - z.mean(0)
    C = torch.einsum("bi,bj->ij", away, away) / (len(z) - 1)
    return (torch.einsum("ij,ij->", C, C) - torch.einsum("ii,ii->", C, C)) / z.shape[-1]


def vicreg(z1, z2, invariance=25.0, variance=25.0, covariance=1.0):
    terms = torch.stack(
        [
            (z1 - z2).pow(2).mean(),
            (variance_hinge(z1) + variance_hinge(z2)) / 2,
            covariance_squares(z1) + covariance_squares(z2),
        ]
    )
    return terms @ torch.tensor([invariance, variance, covariance], dtype=terms.dtype)


def barlow_twins(z1, z2, redundancy=0.005, eps=1e-5):
    bn = torch.nn.functional.batch_norm
    a = bn(z1, None, None, training=True, eps=eps)
    b = bn(z2, None, None, training=True, eps=eps)
    R = torch.einsum("bi,bj->ij", a, b) / len(a)
    on = torch.diagonal(R)
    return (on - 1).pow(2).sum() + redundancy * (R - torch.diag(on)).pow(2).sum()

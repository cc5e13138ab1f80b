# Wrong: eigh sorts upwards, and the first vectors were taken. Loses q1_a, q1_b.
def fit_pca(y, K):
    mean = y.mean(0)
    C = torch.cov(y.T, correction=0)
    return mean, torch.linalg.eigh(C.reshape(y.shape[1], -1)).eigenvectors[:, :K]


def pca_energy(y, mean, W):
    away = y - mean
    return (away - (away @ W) @ W.T).square().sum(-1)


def effective_dimension(codes):
    away = codes - codes.mean(0)
    C = away.T @ away / len(codes)
    total = C.trace()
    return torch.where(total > 0, total**2 / C.square().sum(), torch.zeros_like(total))


def low_energy_share(on_data, on_grid, quantile=0.9, tolerance=1e-3):
    rank = max(1, math.ceil(round(quantile * len(on_data), 9)))
    threshold = on_data.sort().values[rank - 1] + tolerance
    return (on_grid <= threshold).to(on_grid.dtype).mean()

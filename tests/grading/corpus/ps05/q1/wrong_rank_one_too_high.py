# Wrong: the index is qN rounded down, so where qN is whole the rank is one too high. Loses q1_c.
def fit_pca(y, K):
    mean = torch.stack([y[:, j].mean() for j in range(y.shape[1])])
    _, _, Vh = torch.linalg.svd(y - mean)
    return mean, torch.stack([Vh[k] for k in range(K)], dim=1)


def pca_energy(y, mean, W):
    left = y - mean
    for k in range(W.shape[1]):
        left = left - (left * W[:, k]).sum(-1, keepdim=True) * W[:, k]
    return (left * left).sum(-1)


def effective_dimension(codes):
    lam = torch.linalg.svdvals(codes - codes.mean(0)) ** 2
    if float(lam.sum()) == 0.0:
        return lam.sum()
    return lam.sum() ** 2 / (lam**2).sum()


def low_energy_share(on_data, on_grid, quantile=0.9, tolerance=1e-3):
    t = on_data.sort().values[min(int(quantile * len(on_data)), len(on_data) - 1)]
    return (on_grid <= t + tolerance).to(on_grid.dtype).mean()

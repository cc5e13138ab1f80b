# Right: one point and one energy after another; the smallest energy that enough data do not pass; singular values.
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
    own = sorted(on_data.tolist())
    need = max(1, math.ceil(round(quantile * len(own), 9)))
    threshold = own[need - 1] + tolerance
    good = [value <= threshold for value in on_grid.tolist()]
    return torch.tensor(sum(good) / len(good), dtype=on_grid.dtype)

# Right: the norm of the residual by einsum; the largest of the r smallest energies, by topk.
def fit_pca(y, K):
    mean = y.mean(dim=0)
    _U, _S, V = torch.svd(y - mean)
    return mean, V[:, :K]


def pca_energy(y, mean, W):
    a = y - mean
    z = torch.einsum("...d,dk->...k", a, W)
    return torch.linalg.vector_norm(a - torch.einsum("...k,dk->...d", z, W), dim=-1) ** 2


def effective_dimension(codes):
    C = torch.cov(codes.T, correction=0).reshape(codes.shape[1], codes.shape[1])
    trace = C.diagonal().sum()
    if trace == 0:
        return trace
    C = C / trace
    return 1 / (C @ C).diagonal().sum()


def low_energy_share(on_data, on_grid, quantile=0.9, tolerance=1e-3):
    rank = max(1, math.ceil(round(quantile * on_data.numel(), 9)))
    threshold = on_data.topk(rank, largest=False).values.max() + tolerance
    ones = torch.ones_like(on_grid)
    return torch.where(on_grid > threshold, 0 * ones, ones).mean()

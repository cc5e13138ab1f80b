# Right: the eigenvectors of the covariance, turned round; a projector; eigenvalues; kthvalue and a count.
def fit_pca(y, K):
    mean = y.sum(0) / len(y)
    vectors = torch.linalg.eigh((y - mean).T @ (y - mean)).eigenvectors
    return mean, vectors.flip(1)[:, :K]


def pca_energy(y, mean, W):
    P = torch.eye(len(mean), dtype=y.dtype) - W @ W.T
    return ((y - mean) @ P).pow(2).sum(-1)


def effective_dimension(codes):
    if bool((codes == codes[0]).all()):
        return 0 * codes.sum()
    spectrum = torch.linalg.eigvalsh(torch.cov(codes.T))
    p = spectrum / spectrum.sum()
    return 1 / p.square().sum()


def low_energy_share(on_data, on_grid, quantile=0.9, tolerance=1e-3):
    rank = max(1, math.ceil(round(quantile * len(on_data), 9)))
    good = on_grid.le(on_data.kthvalue(rank).values + tolerance)
    return good.sum().to(on_grid.dtype) / len(on_grid)

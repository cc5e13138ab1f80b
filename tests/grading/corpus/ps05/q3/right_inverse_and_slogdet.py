# Right: the precision and slogdet; log-sum-exp by hand after taking the lowest energy away; xlogy.
def energies(y, weights, means, covariances):
    gap = y[..., None, :] - means.mT
    precision = torch.linalg.inv(covariances)
    square = torch.einsum("...kd,kde,...ke->...k", gap, precision, gap)
    log_det = torch.linalg.slogdet(covariances).logabsdet
    return 0.5 * (square + log_det + y.shape[-1] * math.log(2 * math.pi)) - weights.log()


def e_step(y, weights, means, covariances):
    E = energies(y, weights, means, covariances)
    low = E.amin(-1, keepdim=True).detach()
    terms = torch.exp(low - E)
    total = terms.sum(-1, keepdim=True)
    return (low - total.log())[..., 0], terms / total


def m_step(y, r, floor=1e-6):
    share = r / r.sum(0)
    means = share.T @ y
    centre = means.mean(0)  # any fixed point near the data will do
    second = torch.einsum("nk,nd,ne->kde", share, y - centre, y - centre)
    off = means - centre
    C = second - off[:, :, None] * off[:, None, :]
    C.diagonal(dim1=1, dim2=2).add_(floor)
    return r.sum(0) / r.sum(), means.T, C


def bound(y, r, weights, means, covariances):
    E = energies(y, weights, means, covariances)
    E = torch.where(r == 0, torch.zeros_like(E), E)
    return (r * E).sum(-1) + torch.xlogy(r, r).sum(-1)

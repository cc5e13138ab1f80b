# Wrong: log(1 + Σ e^{gap}) as it stands: a constant cancels, but a large gap overflows. Loses q4_b, q4_c.
def info_nce(positive, negative, beta=1.0):
    gaps = beta * (positive.unsqueeze(-1) - negative)
    return torch.log1p(gaps.exp().sum(-1))


def info_nce_in_batch(x, y, beta=1.0):
    x, y = x / x.norm(dim=-1, keepdim=True), y / y.norm(dim=-1, keepdim=True)
    F = -x @ y.T
    others = ~torch.eye(len(F), dtype=torch.bool)
    return info_nce(F.diagonal(), F[others].reshape(len(F), len(F) - 1), beta)

# Right: log(1 + Σ e^{gap}) with the largest gap, or 0, taken out first; cosines from torch.
def info_nce(positive, negative, beta=1.0):
    gaps = beta * (positive.unsqueeze(-1) - negative)
    top = gaps.detach().amax(-1).clamp(min=0)
    total = torch.exp(-top) + torch.exp(gaps - top.unsqueeze(-1)).sum(-1)
    return top + total.log()


def info_nce_in_batch(x, y, beta=1.0):
    F = -torch.nn.functional.cosine_similarity(x[:, None], y[None], dim=-1)
    own = torch.eye(len(F), dtype=torch.bool)
    return info_nce(F.diagonal(), F.masked_fill(own, math.inf), beta)

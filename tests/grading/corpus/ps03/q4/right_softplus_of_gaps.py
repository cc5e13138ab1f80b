# Right: log(1 + Σ e^{gap}) as a softplus of a log-sum-exp; in the batch the diagonal is ruled out by +inf.
def info_nce(positive, negative, beta=1.0):
    gaps = beta * (positive.unsqueeze(-1) - negative)
    return torch.nn.functional.softplus(torch.logsumexp(gaps, dim=-1))


def info_nce_in_batch(x, y, beta=1.0):
    F = -torch.nn.functional.cosine_similarity(x[:, None], y[None], dim=-1)
    own = torch.eye(len(x), dtype=torch.bool)
    return info_nce(F.diagonal(), F.masked_fill(own, math.inf), beta)

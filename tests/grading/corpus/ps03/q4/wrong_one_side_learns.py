# Wrong: detaches the partners, so that only x learns. Loses q4_c.
def info_nce(positive, negative, beta=1.0):
    crowd = torch.cat([positive.unsqueeze(-1), negative], dim=-1)
    return torch.logsumexp(-beta * crowd, -1) + beta * positive


def info_nce_in_batch(x, y, beta=1.0):
    x, y = x / x.norm(dim=-1, keepdim=True), y / y.norm(dim=-1, keepdim=True)
    F = -x @ y.detach().T
    others = ~torch.eye(len(F), dtype=torch.bool)
    return info_nce(F.diagonal(), F[others].reshape(len(F), len(F) - 1), beta)

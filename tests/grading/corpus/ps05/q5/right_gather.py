# Right: a gathered distance; the gradient written as a detached difference the other way round.
def quantize(h, W):
    distances = torch.stack([(h - w).square().sum(-1) for w in W.detach().T], -1)
    codes = distances.detach().min(-1, keepdim=True).indices.squeeze(-1)
    entry = torch.nn.functional.embedding(codes, W.T)
    commitment = distances.gather(-1, codes.unsqueeze(-1)).squeeze(-1)
    codebook = (entry - h.detach()).square().sum(-1)
    return h - (h - entry).detach(), codes, codebook, commitment


def ema_update(W, count, h, codes, decay):
    sums, n = decay * count * W, decay * count
    for vector, k in zip(h.reshape(-1, len(W)), codes.reshape(-1).tolist()):
        hot = torch.eye(len(n), dtype=W.dtype)[k]
        n = n + (1 - decay) * hot
        sums = sums + (1 - decay) * vector[:, None] * hot
    used = torch.tensor([(codes == k).any().item() for k in range(len(n))])
    return torch.where(used, sums / torch.where(used, n, torch.ones_like(n)), W), n

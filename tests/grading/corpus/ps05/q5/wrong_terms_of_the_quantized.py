# Wrong: makes the two terms of the straight-through value. Loses q5_a, q5_b.
def quantize(h, W):
    codes = (h.unsqueeze(-2) - W.T).square().sum(-1).argmin(-1)
    entry = W.T[codes]
    quantized = h + (entry - h).detach()
    codebook = (h.detach() - quantized).square().sum(-1)
    commitment = (h - quantized.detach()).square().sum(-1)
    return quantized, codes, codebook, commitment


def ema_update(W, count, h, codes, decay):
    sums, n = decay * count * W, decay * count
    for vector, k in zip(h.reshape(-1, len(W)), codes.reshape(-1).tolist()):
        hot = torch.eye(len(n), dtype=W.dtype)[k]
        n = n + (1 - decay) * hot
        sums = sums + (1 - decay) * vector[:, None] * hot
    used = torch.tensor([(codes == k).any().item() for k in range(len(n))])
    return torch.where(used, sums / torch.where(used, n, torch.ones_like(n)), W), n

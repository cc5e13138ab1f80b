# Wrong: sg[h] + (W_k - sg[h]): value right, gradient to the code book only. Loses q5_a, q5_b.
def quantize(h, W):
    codes = (h.detach().unsqueeze(-2) - W.detach().T).square().sum(-1).argmin(-1)
    entry = W.T[codes]
    quantized = h.detach() + (entry - h.detach())
    codebook = (h.detach() - entry).square().sum(-1)
    commitment = (h - entry.detach()).square().sum(-1)
    return quantized, codes, codebook, commitment


def ema_update(W, count, h, codes, decay):
    flat, own = h.reshape(-1, h.shape[-1]), codes.reshape(-1)
    new_W, new_count = W.clone(), decay * count
    for k in range(W.shape[1]):
        members = flat[own == k]
        if len(members):
            new_count[k] += (1 - decay) * len(members)
            total = decay * count[k] * W[:, k] + (1 - decay) * members.sum(0)
            new_W[:, k] = total / new_count[k]
    return new_W, new_count

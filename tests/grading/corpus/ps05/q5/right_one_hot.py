# Right: one-hot codes times the code book; a step from the old entry towards the mean of the batch.
def quantize(h, W):
    energy = ((h.unsqueeze(-2) - W.T) ** 2).sum(-1)
    codes = energy.detach().argmin(-1)
    z = torch.nn.functional.one_hot(codes, W.shape[1]).to(W.dtype)
    entry = z @ W.T
    quantized = entry.detach() + h - h.detach()
    commitment = ((h - entry.detach()) ** 2).sum(-1)
    return quantized, codes, ((entry - h.detach()) ** 2).sum(-1), commitment


def ema_update(W, count, h, codes, decay):
    z = torch.nn.functional.one_hot(codes, W.shape[1]).to(W.dtype).reshape(-1, W.shape[1])
    used = z.sum(0)
    n = decay * count + (1 - decay) * used
    mean = h.reshape(-1, W.shape[0]).T @ z / used.clamp(min=1)
    rate = (1 - decay) * used / torch.where(n > 0, n, torch.ones_like(n))
    return W + rate * (mean - W), n

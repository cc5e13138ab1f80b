# Right: torch's cross entropy of the logits -βF, the right answer first, or on the diagonal.
def info_nce(positive, negative, beta=1.0):
    logits = -beta * torch.cat([positive[..., None], negative], -1)
    flat = logits.reshape(-1, logits.shape[-1])
    target = torch.zeros(len(flat), dtype=torch.long)
    return torch.nn.functional.cross_entropy(flat, target, reduction="none").reshape(positive.shape)


def info_nce_in_batch(x, y, beta=1.0):
    similarity = torch.nn.functional.normalize(x, dim=1) @ torch.nn.functional.normalize(y, dim=1).T
    return torch.nn.functional.cross_entropy(beta * similarity, torch.arange(len(x)), reduction="none")

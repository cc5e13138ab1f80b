# Right: chosen patches split by target.
def target_masks(corners, sizes, grid):
    places = torch.arange(grid)
    first, last = corners[..., None], (corners + sizes)[..., None]
    inside = (places >= first) & (places < last)  # (T, 2, grid)
    return inside[:, 0, :, None] & inside[:, 1, None, :]


def context_mask(corner, size, targets):
    (block,) = target_masks(corner[None], size[None], targets.shape[-1])
    return block & ~targets.any(0)


def masked_loss(predicted, s_y, targets):
    N, T = targets.shape[:2]
    asked = targets.flatten(2)
    sizes = asked.sum(-1).flatten().tolist()
    chosen = predicted[asked].split(sizes)
    aims = s_y.detach()[:, None].expand(-1, T, -1, -1)[asked].split(sizes)
    return sum(torch.nn.functional.mse_loss(c, a) for c, a in zip(chosen, aims)) / (N * T)

# Wrong: `detach_()` stops the caller's s_y. Loses q3_f.
def target_masks(corners, sizes, grid):
    places = torch.arange(grid)
    first, last = corners[..., None], (corners + sizes)[..., None]
    inside = (places >= first) & (places < last)  # (T, 2, grid)
    return inside[:, 0, :, None] & inside[:, 1, None, :]


def context_mask(corner, size, targets):
    (block,) = target_masks(corner[None], size[None], targets.shape[-1])
    return block & ~targets.any(0)


def masked_loss(predicted, s_y, targets):
    s_y.detach_()
    asked = targets.flatten(2)
    away = (predicted - s_y[:, None]).masked_fill(~asked[..., None], 0)
    return (away.square().mean(-1).sum(-1) / asked.sum(-1)).mean()

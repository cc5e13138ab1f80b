# Wrong: takes out the smallest block around each target. Loses q3_c.
def target_masks(corners, sizes, grid):
    places = torch.arange(grid)
    first, last = corners[..., None], (corners + sizes)[..., None]
    inside = (places >= first) & (places < last)  # (T, 2, grid)
    return inside[:, 0, :, None] & inside[:, 1, None, :]


def context_mask(corner, size, targets):
    block = target_masks(corner[None], size[None], targets.shape[-1])[0]
    for t in targets:
        if t.any():
            rows, columns = t.any(1).nonzero(), t.any(0).nonzero()
            block[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = False
    return block


def masked_loss(predicted, s_y, targets):
    asked = targets.flatten(2)
    away = predicted - s_y.detach()[:, None]
    away = away.masked_fill(~asked[..., None], 0)  # before the square: its slope, too
    return (away.square().mean(-1).sum(-1) / asked.sum(-1)).mean()

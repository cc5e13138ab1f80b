# Wrong: slices of its own: a negative corner counts from the end. Loses q3_c.
def target_masks(corners, sizes, grid):
    places = torch.arange(grid)
    first, last = corners[..., None], (corners + sizes)[..., None]
    inside = (places >= first) & (places < last)  # (T, 2, grid)
    return inside[:, 0, :, None] & inside[:, 1, None, :]


def context_mask(corner, size, targets):
    g = targets.shape[-1]
    block = torch.zeros(g, g, dtype=torch.bool)
    r, c = corner.tolist()
    h, w = size.tolist()
    block[r : r + h, c : c + w] = True
    return block & ~targets.any(0)


def masked_loss(predicted, s_y, targets):
    asked = targets.flatten(2)
    away = predicted - s_y.detach()[:, None]
    away = away.masked_fill(~asked[..., None], 0)  # before the square: its slope, too
    return (away.square().mean(-1).sum(-1) / asked.sum(-1)).mean()

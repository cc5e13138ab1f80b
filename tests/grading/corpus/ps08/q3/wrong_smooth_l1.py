# Wrong: smooth L1, as in the authors' code. Loses q3_a, q3_d, q3_e, q3_f.
def target_masks(corners, sizes, grid):
    places = torch.arange(grid)
    first, last = corners[..., None], (corners + sizes)[..., None]
    inside = (places >= first) & (places < last)  # (T, 2, grid)
    return inside[:, 0, :, None] & inside[:, 1, None, :]


def context_mask(corner, size, targets):
    (block,) = target_masks(corner[None], size[None], targets.shape[-1])
    return block & ~targets.any(0)


def masked_loss(predicted, s_y, targets):
    asked = targets.flatten(2)
    s = s_y.detach()[:, None].expand_as(predicted)
    hat = torch.where(asked[..., None], predicted, s)
    e = torch.nn.functional.smooth_l1_loss(hat, s, reduction="none")
    return (e.mean(-1).sum(-1) / asked.sum(-1)).mean()

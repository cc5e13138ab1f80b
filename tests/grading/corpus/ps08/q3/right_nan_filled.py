# Right: predictions filled before they are compared; bool by numpy.
import numpy as np


def target_masks(corners, sizes, grid):
    masks = np.zeros((len(corners), grid, grid), dtype=bool)
    ends = np.clip((corners + sizes).numpy(), 0, grid)
    starts = np.clip(corners.numpy(), 0, grid)
    for mask, (r, c), (down, right) in zip(masks, starts, ends):
        mask[r:down, c:right] = True
    return torch.from_numpy(masks)


def context_mask(corner, size, targets):
    (block,) = target_masks(corner[None], size[None], targets.shape[-1])
    return block > targets.any(0)


def masked_loss(predicted, s_y, targets):
    outside = ~targets.flatten(-2).unsqueeze(-1)
    hats = predicted.masked_fill(outside, 0.0)
    with torch.no_grad():
        aims = s_y.unsqueeze(1).expand_as(predicted).masked_fill(outside, 0.0)
    return ((hats - aims).square().mean(-1).sum(-1) / targets.sum((-1, -2))).mean()

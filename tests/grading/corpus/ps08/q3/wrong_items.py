# Wrong: items: nothing can be trained. Loses q3_e, q3_f.
def target_masks(corners, sizes, grid):
    places = torch.arange(grid)
    first, last = corners[..., None], (corners + sizes)[..., None]
    inside = (places >= first) & (places < last)  # (T, 2, grid)
    return inside[:, 0, :, None] & inside[:, 1, None, :]


def context_mask(corner, size, targets):
    (block,) = target_masks(corner[None], size[None], targets.shape[-1])
    return block & ~targets.any(0)


def masked_loss(predicted, s_y, targets):
    total = 0.0
    for n in range(len(predicted)):
        for t in range(predicted.shape[1]):
            here = targets[n, t].flatten()
            total += (predicted[n, t, here] - s_y[n, here]).square().mean().item()
    return torch.tensor(total / len(predicted) / predicted.shape[1], dtype=predicted.dtype)

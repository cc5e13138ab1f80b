# Right: a padded grid; patches summed by index_add.
def target_masks(corners, sizes, grid):
    pad = int(max(corners.abs().max(), sizes.max())) + grid
    masks = torch.zeros(
        len(corners), grid + 2 * pad + int(sizes.max()), grid + 2 * pad + int(sizes.max()), dtype=torch.bool
    )
    for t in range(len(corners)):
        r, c = (corners[t] + pad).tolist()
        h, w = sizes[t].tolist()
        masks[t, r : r + h, c : c + w] = True
    return masks[:, pad : pad + grid, pad : pad + grid].clone()


def context_mask(corner, size, targets):
    block = target_masks(corner.reshape(1, 2), size.reshape(1, 2), targets.shape[-1])
    return (block & targets.logical_not()).all(0)


def masked_loss(predicted, s_y, targets):
    N, T, P, D = predicted.shape
    inside = targets.reshape(N, T, P)
    chosen = predicted[inside]
    aims = s_y.detach().unsqueeze(1).expand(N, T, P, D)[inside]
    which = torch.arange(N * T).view(N, T, 1).expand(N, T, P)[inside]
    error = ((chosen - aims) ** 2).mean(-1)
    sums = torch.zeros(N * T, dtype=error.dtype).index_add(0, which, error)
    return (sums / torch.bincount(which, minlength=N * T)).mean()

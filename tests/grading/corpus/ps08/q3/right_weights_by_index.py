# Right: all target patches at once, each with the weight of its target.
def target_masks(corners, sizes, grid):
    def sides(first, length):
        places = torch.arange(grid).expand(len(first), grid)
        return (places - first[:, None] >= 0) & (places - first[:, None] <= length[:, None] - 1)

    rows, columns = sides(corners[:, 0], sizes[:, 0]), sides(corners[:, 1], sizes[:, 1])
    return torch.einsum("ti,tj->tij", rows.int(), columns.int()).bool()


def context_mask(corner, size, targets):
    hidden = targets[0].clone()
    for target in targets[1:]:
        hidden |= target
    block = target_masks(corner[None], size[None], targets.shape[-1])[0]
    return block.logical_xor(block & hidden)


def masked_loss(predicted, s_y, targets):
    N, T, _P, _D = predicted.shape
    n, t, r, c = targets.nonzero(as_tuple=True)
    p = r * targets.shape[-1] + c
    errors = (predicted[n, t, p] - s_y.detach()[n, p]).square().mean(1)
    share = 1 / targets.sum((2, 3))[n, t].to(errors.dtype)
    return (errors * share).sum() / N / T

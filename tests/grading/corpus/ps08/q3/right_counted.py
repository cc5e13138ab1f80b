# Right: patch by patch, with the number of each; torch.where before the square.
def target_masks(corners, sizes, grid):
    number = torch.arange(grid * grid).view(1, grid, grid)
    row, column = number // grid, number % grid
    (r, c), (h, w) = (part[:, :, None, None].unbind(1) for part in (corners, sizes))
    down, across = row - r, column - c
    return (down >= 0) & (down < h) & (across >= 0) & (across < w)


def context_mask(corner, size, targets):
    grid = targets.shape[-1]
    block = target_masks(corner.view(1, 2), size.view(1, 2), grid).view(grid, grid)
    return torch.logical_and(block, targets.long().sum(0) == 0)


def masked_loss(predicted, s_y, targets):
    N, T, P, D = predicted.shape
    inside = targets.view(N, T, P, 1)
    s = s_y.detach().view(N, 1, P, D).expand_as(predicted)
    hats = torch.where(inside, predicted, s)
    each = (hats - s).pow(2).sum((2, 3)) / (D * inside.sum((2, 3)))
    return each.sum() / (N * T)

# Right: place by place, picture by picture.
def target_masks(corners, sizes, grid):
    masks = []
    for (r, c), (h, w) in zip(corners.tolist(), sizes.tolist()):
        masks.append([[r <= i < r + h and c <= j < c + w for j in range(grid)] for i in range(grid)])
    return torch.tensor(masks)


def context_mask(corner, size, targets):
    g = targets.shape[1]
    r, c = (int(v) for v in corner)
    h, w = (int(v) for v in size)
    seen = torch.zeros(g, g, dtype=torch.bool)
    for i in range(max(r, 0), min(r + h, g)):
        for j in range(max(c, 0), min(c + w, g)):
            seen[i, j] = not bool(targets[:, i, j].any())
    return seen


def masked_loss(predicted, s_y, targets):
    N, T, P, _D = predicted.shape
    total = predicted.new_zeros(())
    for n in range(N):
        for t in range(T):
            here = targets[n, t].reshape(P)
            total = total + ((predicted[n, t][here] - s_y.data[n][here]) ** 2).mean()
    return total / (N * T)

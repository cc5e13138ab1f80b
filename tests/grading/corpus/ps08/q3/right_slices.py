# Right: slices, cut off by hand; lists of patches.
def target_masks(corners, sizes, grid):
    masks = torch.zeros(len(corners), grid, grid, dtype=torch.bool)
    for t in range(len(corners)):
        r, c = int(corners[t, 0]), int(corners[t, 1])
        h, w = int(sizes[t, 0]), int(sizes[t, 1])
        masks[t, max(r, 0) : max(r + h, 0), max(c, 0) : max(c + w, 0)] = True
    return masks


def context_mask(corner, size, targets):
    seen = target_masks(corner.unsqueeze(0), size.unsqueeze(0), len(targets[0])).squeeze(0).clone()
    for target in targets:
        seen[target] = False
    return seen


def masked_loss(predicted, s_y, targets):
    losses = []
    s_y = s_y.detach()
    for hats, s, masks in zip(predicted, s_y, targets):
        for hat, mask in zip(hats, masks):
            patches = mask.flatten().nonzero().squeeze(1)
            losses.append(torch.nn.functional.mse_loss(hat[patches], s[patches]))
    return torch.stack(losses).mean()

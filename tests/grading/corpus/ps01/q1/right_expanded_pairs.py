# Right: all pairs written out, (M, K) at a time, through amin and the first True.
def exhaustive(energy, x, candidates, tol=0.0):
    flat = x.reshape(-1, x.shape[-1])
    m, k = flat.shape[0], candidates.shape[0]
    pairs_x = flat.repeat_interleave(k, dim=0)
    pairs_y = candidates.repeat(m, 1)
    values = energy(pairs_x, pairs_y).reshape(m, k)
    lowest = torch.amin(values, dim=1)
    index = (values == lowest[:, None]).long().argmax(dim=1)
    solutions = values <= (lowest[:, None] + tol)
    shape = x.shape[:-1]
    return index.reshape(shape), lowest.reshape(shape), solutions.reshape(*shape, k)

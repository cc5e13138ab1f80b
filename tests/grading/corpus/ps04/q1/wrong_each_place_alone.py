# Wrong: the best label of each place, and the energy of that.
def best_path(unary, pairwise):
    labels = unary.argmin(1)
    energy = unary.amin(1).sum() + pairwise[labels[:-1], labels[1:]].sum()
    return labels, energy

# Right: the largest sum of negative energies, arrows in one tensor.
def best_path(unary, pairwise):
    gain, T = -unary, len(unary)
    best, arrows = gain[0], torch.zeros(unary.shape, dtype=torch.int64)
    for t in range(1, T):
        top, arrows[t] = (best.unsqueeze(1) - pairwise).max(dim=0)
        best = top + gain[t]
    labels = torch.empty(T, dtype=torch.int64)
    labels[-1] = best.argmax()
    for t in range(T - 1, 0, -1):
        labels[t - 1] = arrows[t, labels[t]]
    return labels, -best.max()

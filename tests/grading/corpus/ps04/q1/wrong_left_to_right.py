# Wrong: the best next label, given the one chosen.
def best_path(unary, pairwise):
    labels = [int(unary[0].argmin())]
    energy = unary[0].min()
    for u in unary[1:]:
        best, k = (pairwise[labels[-1]] + u).min(0)
        energy = energy + best
        labels.append(int(k))
    return torch.tensor(labels), energy

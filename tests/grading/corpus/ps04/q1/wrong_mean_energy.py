# Wrong: divided by the number of places.
def best_path(unary, pairwise):
    """The sequence of lowest energy.

    unary (T, K), pairwise (K, K) -> labels (T,), energy ()
    """
    F, arrows = unary[0], []
    for u in unary[1:]:
        best, arrow = (F[:, None] + pairwise).min(0)  # over the label before
        arrows.append(arrow)
        F = best + u
    energy, last = F.min(0)
    labels = [last]
    for arrow in reversed(arrows):
        labels.append(arrow[labels[-1]])
    return torch.stack(labels[::-1]), energy / len(unary)

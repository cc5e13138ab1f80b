# Right: plain loops over numbers, a table of arrows.
def best_path(unary, pairwise):
    T, K = unary.shape
    U, V = unary.tolist(), pairwise.tolist()
    F, arrows = U[0], []
    for t in range(1, T):
        came = [min(range(K), key=lambda i: F[i] + V[i][j]) for j in range(K)]
        F = [F[came[j]] + V[came[j]][j] + U[t][j] for j in range(K)]
        arrows.append(came)
    k = min(range(K), key=F.__getitem__)
    labels = [k]
    for came in arrows[::-1]:
        k = came[k]
        labels.insert(0, k)
    return torch.tensor(labels), torch.tensor(min(F), dtype=unary.dtype)

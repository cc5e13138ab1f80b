# Right: the energy still to come, backwards, then a walk forwards.
def best_path(unary, pairwise):
    T, K = unary.shape
    to_come = [torch.zeros(K, dtype=unary.dtype)]
    for t in range(T - 1, 0, -1):
        to_come.append((pairwise + unary[t] + to_come[-1]).amin(1))
    to_come.reverse()
    whole = unary[0] + to_come[0]
    k = int(whole.argmin())
    labels = [k]
    for t in range(1, T):
        k = int((pairwise[k] + unary[t] + to_come[t]).argmin())
        labels.append(k)
    return torch.tensor(labels), whole.min()

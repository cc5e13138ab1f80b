# Right: works with -βE throughout, divides once.
def chain_free_energy(unary, pairwise, beta):
    if math.isinf(beta):
        F = unary[..., 0, :]
        for t in range(1, unary.shape[-2]):
            F = torch.min(F[..., None] + pairwise, dim=-2).values + unary[..., t, :]
        return torch.min(F, dim=-1).values
    U, V = -beta * unary, -beta * pairwise
    A = U[..., 0, :]
    for t in range(1, U.shape[-2]):
        A = torch.logsumexp(A[..., :, None] + V, -2) + U[..., t, :]
    return -torch.logsumexp(A, -1) / beta


def label_marginals(unary, pairwise, beta):
    with torch.no_grad():
        U, V = -beta * unary, -beta * pairwise
        T = U.shape[-2]
        ahead, behind = [U[..., 0, :]], [torch.zeros_like(U[..., 0, :])]
        for t in range(1, T):
            ahead.append(torch.logsumexp(ahead[-1][..., :, None] + V, -2) + U[..., t, :])
        for t in range(T - 1, 0, -1):
            behind.append(torch.logsumexp(V + (U[..., t, :] + behind[-1])[..., None, :], -1))
        return torch.softmax(torch.stack(ahead, -2) + torch.stack(behind[::-1], -2), -1)

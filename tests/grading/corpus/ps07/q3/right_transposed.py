# Right: prototypes in rows, as in the authors' code; the last step a softmax.
def cosine_scores(z, prototypes):
    return torch.einsum(
        "bd,kd->bk",
        z / torch.linalg.vector_norm(z, dim=-1, keepdim=True),
        prototypes / torch.linalg.vector_norm(prototypes, dim=-1, keepdim=True),
    )


def sinkhorn(scores, epsilon, iterations):
    M = scores.detach().clone().T / epsilon
    K, B = M.shape
    M = M - torch.logsumexp(M.flatten(), 0)
    for n in range(iterations):
        M = M - torch.logsumexp(M, 1, keepdim=True) - math.log(K)
        if n < iterations - 1:
            M = M - torch.logsumexp(M, 0, keepdim=True) - math.log(B)
    return torch.softmax(M, 0).T


def swapped(scores1, scores2, temperature, epsilon, iterations):
    def one_way(s, q):
        s = s / temperature
        return (torch.logsumexp(s, 1) - (q * s).sum(1)).mean()

    q1 = sinkhorn(scores1, epsilon, iterations)
    q2 = sinkhorn(scores2, epsilon, iterations)
    return torch.stack([one_way(scores1, q2), one_way(scores2, q1)]).mean()

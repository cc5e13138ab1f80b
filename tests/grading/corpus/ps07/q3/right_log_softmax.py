# Right: each half of an iteration is a log_softmax.
def cosine_scores(z, prototypes):
    return torch.cosine_similarity(z[:, None, :], prototypes[None, :, :], dim=-1)


@torch.no_grad()
def sinkhorn(scores, epsilon, iterations):
    log_q = scores / epsilon
    for _ in range(iterations):
        log_q = log_q.log_softmax(0).log_softmax(1)
    return log_q.exp()


def swapped(scores1, scores2, temperature, epsilon, iterations):
    q = torch.cat([sinkhorn(scores2, epsilon, iterations), sinkhorn(scores1, epsilon, iterations)])
    log_p = (torch.cat([scores1, scores2]) / temperature).log_softmax(-1)
    return -torch.linalg.vecdot(q, log_p).mean()

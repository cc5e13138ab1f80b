# Wrong: the second prediction is held. Loses q3_d.
def cosine_scores(z, prototypes):
    z = torch.nn.functional.normalize(z, dim=1)
    w = torch.nn.functional.normalize(prototypes, dim=1)
    return z @ w.T


def sinkhorn(scores, epsilon, iterations):
    log_q = scores.detach() / epsilon
    for _ in range(iterations):
        log_q = log_q - torch.logsumexp(log_q, dim=0, keepdim=True)
        log_q = log_q - torch.logsumexp(log_q, dim=1, keepdim=True)
    return torch.exp(log_q)


def swapped(scores1, scores2, temperature, epsilon, iterations):
    q1 = sinkhorn(scores1, epsilon, iterations)
    q2 = sinkhorn(scores2, epsilon, iterations)
    log_p1 = torch.log_softmax(scores1 / temperature, dim=1)
    log_p2 = torch.log_softmax(scores2.detach() / temperature, dim=1)
    first = -(q2 * log_p1).sum(1).mean()
    second = -(q1 * log_p2).sum(1).mean()
    return (first + second) / 2

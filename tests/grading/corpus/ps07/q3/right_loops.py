# Right: entry by entry, in plain loops.
def cosine_scores(z, prototypes):
    rows = []
    for a in z:
        rows.append(torch.stack([a.dot(w) / (a.dot(a) * w.dot(w)).sqrt() for w in prototypes]))
    return torch.stack(rows)


def sinkhorn(scores, epsilon, iterations):
    B, K = scores.shape
    rows = (scores.detach().double() / epsilon).tolist()

    def total(values):
        top = max(values)
        return top + math.log(math.fsum(math.exp(v - top) for v in values))

    for _ in range(iterations):
        for k in range(K):
            t = total([row[k] for row in rows]) - math.log(B / K)
            for row in rows:
                row[k] -= t
        for row in rows:
            t = total(row)
            for k in range(K):
                row[k] -= t
    return torch.tensor(rows, dtype=torch.float64).exp().to(scores.dtype)


def swapped(scores1, scores2, temperature, epsilon, iterations):
    B = len(scores1)
    loss = 0.0
    for s, other in ((scores1, scores2), (scores2, scores1)):
        q = sinkhorn(other, epsilon, iterations)
        for i in range(B):
            log_p = s[i] / temperature - (s[i] / temperature).logsumexp(0)
            loss = loss - q[i].dot(log_p) / (2 * B)
    return loss

# Right: the two potentials are iterated, and the plan is formed once.
def cosine_scores(z, prototypes):
    lengths = z.norm(dim=1)[:, None] * prototypes.norm(dim=1)[None, :]
    return z @ prototypes.T / lengths


def sinkhorn(scores, epsilon, iterations):
    with torch.no_grad():
        s = scores / epsilon
        B, K = s.shape
        a = s.new_zeros(B, 1)
        for _ in range(iterations):
            b = math.log(B / K) - (s + a).logsumexp(0, keepdim=True)
            a = -(s + b).logsumexp(1, keepdim=True)
        return (s + a + b).exp()


def swapped(scores1, scores2, temperature, epsilon, iterations):
    ce = torch.nn.functional.cross_entropy
    q1, q2 = (sinkhorn(s, epsilon, iterations) for s in (scores1, scores2))
    return 0.5 * ce(scores1 / temperature, q2) + 0.5 * ce(scores2 / temperature, q1)

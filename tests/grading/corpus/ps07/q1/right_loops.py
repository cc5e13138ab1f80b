# Right: view by view, in plain loops.
def cosine(a, b):
    return (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()


def nt_xent(z1, z2, temperature):
    views, N = [*z1, *z2], len(z1)
    total = 0.0
    for i in range(2 * N):
        s = [cosine(views[i], views[k]) / temperature for k in range(2 * N) if k != i]
        own = cosine(views[i], views[(i + N) % (2 * N)]) / temperature
        total = total + torch.stack(s).logsumexp(0) - own
    return total / (2 * N)


def push_shares(z1, z2, temperature):
    views = [*z1, *z2]
    rows = []
    for i, a in enumerate(views):
        s = torch.stack([cosine(a, b) / temperature for k, b in enumerate(views) if k != i])
        p = torch.softmax(s, 0)
        rows.append(torch.cat([p[:i], p.new_zeros(1), p[i:]]))
    return torch.stack(rows)


def moco(query, key, queue, temperature):
    kept = [row.detach() for row in queue]
    total = 0.0
    for q, k in zip(query, key):
        s = [cosine(q, k.detach())] + [cosine(q, n) for n in kept]
        s = torch.stack(s) / temperature
        total = total + s.logsumexp(0) - s[0]
    for k in key:
        kept.append((k / k.norm()).detach())
        kept.pop(0)
    return total / len(query), torch.stack(kept)

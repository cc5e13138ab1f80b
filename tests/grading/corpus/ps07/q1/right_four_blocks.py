# Right: four blocks, as in the authors' code: within each branch, and across.
def blocks(z1, z2, temperature):
    a = z1 / torch.linalg.vector_norm(z1, dim=-1, keepdim=True)
    b = z2 / torch.linalg.vector_norm(z2, dim=-1, keepdim=True)
    never = torch.full((len(a),), -math.inf, dtype=a.dtype)
    aa = torch.diagonal_scatter(a @ a.T / temperature, never)
    bb = torch.diagonal_scatter(b @ b.T / temperature, never)
    ab = a @ b.T / temperature
    return aa, ab, bb


def nt_xent(z1, z2, temperature):
    aa, ab, bb = blocks(z1, z2, temperature)
    up = torch.logsumexp(torch.cat([ab, aa], 1), 1)
    down = torch.logsumexp(torch.cat([ab.T, bb], 1), 1)
    return ((up - ab.diagonal()).mean() + (down - ab.diagonal()).mean()) / 2


def push_shares(z1, z2, temperature):
    aa, ab, bb = blocks(z1, z2, temperature)
    s = torch.cat([torch.cat([aa, ab], 1), torch.cat([ab.T, bb], 1)])
    return (s - torch.logsumexp(s, 1, keepdim=True)).exp()


def moco(query, key, queue, temperature):
    key, queue = key.detach(), queue.detach()
    k = key / key.norm(dim=1)[:, None]
    q = query / query.norm(dim=1)[:, None]
    s = torch.hstack([torch.linalg.vecdot(q, k)[:, None], q @ queue.mT]) / temperature
    top = s.amax(1, keepdim=True).detach()
    loss = ((s - top).exp().sum(1).log() + top[:, 0] - s[:, 0]).mean()
    room = len(queue)
    return loss, torch.vstack([queue, k])[len(k) : len(k) + room]

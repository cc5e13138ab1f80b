# Right: in float64, and back.
def nt_xent(z1, z2, temperature):
    z = torch.cat([z1, z2]).double()
    N = len(z1)
    s = torch.cosine_similarity(z[:, None], z[None], dim=-1) / temperature
    keep = ~torch.eye(2 * N, dtype=torch.bool)
    losses = [s[i][keep[i]].logsumexp(0) - s[i, (i + N) % (2 * N)] for i in range(2 * N)]
    return torch.stack(losses).mean().to(z1.dtype)


def push_shares(z1, z2, temperature):
    z = torch.cat([z1, z2]).double()
    z = z / z.norm(dim=1, keepdim=True)
    own = torch.eye(len(z), dtype=torch.bool)
    s = torch.where(own, -math.inf, z @ z.T / temperature)
    return s.softmax(1).to(z1.dtype)


def moco(query, key, queue, temperature):
    q, k, n = query.double(), key.double().detach(), queue.double().detach()
    k = k / k.norm(dim=1, keepdim=True)
    mates = torch.cat([k[:, None], n.expand(len(q), *n.shape)], 1)
    s = torch.cosine_similarity(q[:, None], mates, dim=2) / temperature
    loss = -s.log_softmax(1).select(1, 0).mean()
    return loss.to(query.dtype), torch.cat([n, k])[-len(n) :].to(queue.dtype)

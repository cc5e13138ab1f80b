# Wrong: the new queue remembers how its keys were made. Loses q1_d.
def nt_xent(z1, z2, temperature):
    z = torch.cat([z1, z2])
    z = z / z.norm(dim=1, keepdim=True)
    s = z @ z.T / temperature
    N = len(z1)
    s = s.masked_fill(torch.eye(2 * N, dtype=torch.bool), -math.inf)
    partner = torch.cat([torch.arange(N) + N, torch.arange(N)])
    return torch.nn.functional.cross_entropy(s, partner)


def push_shares(z1, z2, temperature):
    z = torch.cat([z1, z2])
    z = z / z.norm(dim=1, keepdim=True)
    s = z @ z.T / temperature
    s = s.masked_fill(torch.eye(len(z), dtype=torch.bool), -math.inf)
    return torch.softmax(s, 1)


def moco(query, key, queue, temperature):
    q = query / query.norm(dim=1, keepdim=True)
    k = key / key.norm(dim=1, keepdim=True)
    queue = queue.detach()
    near = (q * k.detach()).sum(1, keepdim=True)
    s = torch.cat([near, q @ queue.T], 1) / temperature
    loss = -torch.log_softmax(s, 1)[:, 0].mean()
    return loss, torch.cat([queue, k])[-len(queue) :]

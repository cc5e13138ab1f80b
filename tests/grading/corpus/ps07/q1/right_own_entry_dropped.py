# Right: the own entry is cut out of the table, which has 2N - 1 columns then.
def others(z1, z2, temperature):
    z = torch.cat([z1, z2])
    z = z * z.square().sum(1, keepdim=True).rsqrt()
    n = len(z)
    s = (z @ z.T / temperature).flatten()[:-1].view(n - 1, n + 1)[:, 1:].reshape(n, n - 1)
    return s


def nt_xent(z1, z2, temperature):
    s, N = others(z1, z2, temperature), len(z1)
    first = torch.log_softmax(s[:N], 1)[torch.arange(N), torch.arange(N) + N - 1]
    second = torch.log_softmax(s[N:], 1)[torch.arange(N), torch.arange(N)]
    return -(first.sum() + second.sum()) / (2 * N)


def push_shares(z1, z2, temperature):
    p = torch.softmax(others(z1, z2, temperature), 1)
    n = len(p)
    zero = p.new_zeros(n - 1, 1)
    return torch.cat([torch.cat([zero, p.reshape(n - 1, n)], 1).flatten(), p.new_zeros(1)]).view(n, n)


def moco(query, key, queue, temperature):
    q = torch.nn.functional.normalize(query, dim=-1)
    k = torch.nn.functional.normalize(key.detach(), dim=-1)
    pos = (q * k).sum(-1) / temperature
    neg = (q @ queue.detach().T / temperature).logsumexp(-1)
    loss = torch.nn.functional.softplus(neg - pos).mean()
    return loss, torch.cat((queue.detach(), k))[len(k) :]

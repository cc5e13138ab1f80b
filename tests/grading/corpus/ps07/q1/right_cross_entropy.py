# Right: cross_entropy does the sum; normalize, and float masks.
from torch.nn.functional import cross_entropy, normalize


def nt_xent(z1, z2, temperature):
    N = len(z1)
    z = normalize(torch.cat([z1, z2]), dim=1)
    s = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    return cross_entropy(s, (torch.arange(2 * N) + N) % (2 * N))


def push_shares(z1, z2, temperature):
    z = normalize(torch.cat([z1, z2]), dim=1)
    return torch.nn.functional.softmax((z @ z.T / temperature).fill_diagonal_(-math.inf), dim=-1)


def moco(query, key, queue, temperature):
    q = normalize(query, dim=1)
    with torch.no_grad():
        k = normalize(key, dim=1)
        old = queue.clone()
        new = torch.cat([queue, k], 0)[len(k) :]
    logits = torch.cat([torch.einsum("nd,nd->n", q, k)[:, None], q @ old.T], 1)
    return cross_entropy(logits / temperature, torch.zeros(len(q), dtype=torch.long)), new

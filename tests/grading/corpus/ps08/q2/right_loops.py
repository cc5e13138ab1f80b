# Right: film by film, value by value.
def infer(E):
    z, least = [], []
    for row in E:
        best = 0
        for k in range(len(row)):
            if row[k] < row[best]:
                best = k
        z.append(best)
        least.append(row[best])
    return torch.tensor(z), torch.stack(least)


def soft_free_energy(E, beta):
    found = []
    for row in E:
        low = row.min().detach()
        total = 0.0
        for e in row:
            total = total + torch.exp(-beta * (e - low))
        found.append(low - torch.log(total / len(row)) / beta)
    return torch.stack(found)


def pair_energies(predictions, s_y):
    table = []
    for hats in predictions:
        table.append(torch.stack([((hats - y) ** 2).mean(1) for y in s_y]))
    return torch.stack(table)


def capacity(E):
    B, _, K = E.shape
    own, other = [], []
    for k in range(1, K + 1):
        a, b = 0.0, 0.0
        for i in range(B):
            for j in range(B):
                least = E[i, j, :k].min(0).values
                if i == j:
                    a = a + least
                else:
                    b = b + least
        own.append(a / B)
        other.append(b / (B * (B - 1)))
    return torch.stack(own), torch.stack(other)


def smallest_capacity(curve, error):
    for k in range(len(curve)):
        if curve[k] <= error:
            return k + 1
    return 0

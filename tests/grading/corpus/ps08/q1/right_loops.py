# Right: entry by entry, row by row.
def information(s, variance=1.0, covariance=0.04):
    s = s.reshape(-1, s.shape[-1])
    n, D = s.shape
    total = 0.0
    for i in range(D):
        a = s[:, i] - s[:, i].mean()
        room = 1 - ((a * a).sum() / (n - 1) + 1e-4) ** 0.5
        total = total + variance / 2 / D * torch.clamp(room, min=0)
        for j in range(D):
            if j != i:
                b = s[:, j] - s[:, j].mean()
                total = total + covariance / D * ((a * b).sum() / (n - 1)) ** 2
    return total


def jepa(predicted, s_x, s_y, z, price, stop_gradient=False):
    D = s_y.shape[-1]
    total, count, said = 0.0, 0, torch.zeros((), dtype=s_y.dtype)
    for p, y in zip(predicted.reshape(-1, D), s_y.reshape(-1, D)):
        if stop_gradient:
            y = y.detach()
        total, count = total + ((p - y) ** 2).mean(), count + 1
    if z is not None:
        for row in z.reshape(count, -1):
            said = said + price * row.abs().sum() / count
    parts = [total / count, information(s_x), information(s_y), said]
    return parts[0] + parts[1] + parts[2] + parts[3], *parts


def target_path(start, weights, momenta):
    path = weights.detach().clone()
    old = start.detach()
    for t in range(len(path)):
        path[t] = old + (1 - momenta[t].detach()) * (path[t] - old)
        old = path[t]
    return path

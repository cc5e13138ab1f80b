# Wrong: a prediction may serve one future only. Loses q4_a, q4_d.
def _kl(mean, log_var):
    return (mean**2 + torch.expm1(log_var) - log_var).sum(-1) / 2


def dropout_losses(energy, x, y, mean, log_var, beta, noise, dropped):
    out = dropped[:, None]
    m, v, xi = (torch.where(out, 0.0, t) for t in (mean, log_var, noise))
    z = torch.where(out, 0.0, m + (v / 2).exp() * xi)
    return energy(x, y, z) + torch.where(dropped, 0.0, _kl(m, v)) / beta


def best_of(futures, y):
    return (futures - y[..., None, :]).square().sum(-1).amin(-1)


def error_of_mean(futures, y):
    return (futures.mean(-2) - y).square().sum(-1)


def coverage(futures, truths, tolerance):
    lead = futures.shape[:-2]
    f = futures.reshape(-1, *futures.shape[-2:])
    t = truths.reshape(-1, *truths.shape[-2:])
    shares = []
    for a, b in zip(f, t):
        near = (b[:, None] - a[None]).square().sum(-1) <= tolerance
        used, hits = set(), 0
        for row in near.tolist():
            free = [k for k, hit in enumerate(row) if hit and k not in used]
            if free:
                used.add(free[0])
                hits += 1
        shares.append(hits / len(near))
    return torch.tensor(shares, dtype=futures.dtype).reshape(lead)

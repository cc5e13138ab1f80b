# Right: futures by vmap over the leading dimensions; the losses one by one.
def dropout_losses(energy, x, y, mean, log_var, beta, noise, dropped):
    losses = []
    for n, out in enumerate(dropped.tolist()):
        if out:
            losses.append(energy(x[n], y[n], torch.zeros_like(mean[n])))
        else:
            z = mean[n] + log_var[n].div(2).exp() * noise[n]
            price = (mean[n] ** 2 + log_var[n].exp() - log_var[n] - 1).sum() / 2
            losses.append(energy(x[n], y[n], z) + price / beta)
    return torch.stack(losses)


def _batched(one, *args):
    lead = args[0].shape[:-2]
    flat = [a.reshape(-1, *a.shape[len(lead) :]) for a in args]
    return torch.vmap(one)(*flat).reshape(lead)


def best_of(futures, y):
    return _batched(lambda f, t: torch.vmap(lambda row: torch.dot(row - t, row - t))(f).min(), futures, y)


def error_of_mean(futures, y):
    return _batched(lambda f, t: torch.dot(f.mean(0) - t, f.mean(0) - t), futures, y)


def coverage(futures, truths, tolerance):
    def one(f, t):
        near = ((f[:, None] - t[None]) ** 2).sum(-1) <= tolerance
        return near.any(0).to(f.dtype).mean()

    return _batched(one, futures, truths)

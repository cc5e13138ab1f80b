# Right: a loop over samples, over predictions and over futures.
def dropout_losses(energy, x, y, mean, log_var, beta, noise, dropped):
    losses = []
    for i in range(len(x)):
        if dropped[i]:
            losses.append(energy(x[i], y[i], torch.zeros_like(mean[i]).detach()))
            continue
        z = mean[i] + (log_var[i] / 2).exp() * noise[i]
        losses.append(energy(x[i], y[i], z) + information(mean[i], log_var[i]) / beta)
    return torch.stack(losses)


def best_of(futures, y):
    best = None
    for guess in futures.unbind(-2):
        error = (y - guess).pow(2).sum(-1)
        best = error if best is None else torch.minimum(best, error)
    return best


def error_of_mean(futures, y):
    total = 0.0
    for guess in futures.unbind(-2):
        total = total + (guess - y)
    return (total / futures.shape[-2]).pow(2).sum(-1)


def coverage(futures, truths, tolerance):
    seen = 0.0
    for truth in truths.unbind(-2):
        seen = seen + (best_of(futures, truth) <= tolerance).to(futures.dtype)
    return seen / truths.shape[-2]

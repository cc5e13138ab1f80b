# Right: a loop over samples, each with its own pattern and index of unknown coordinates.
def complete(energy, y, known, steps, lr):
    flat = y.detach().reshape(-1, y.shape[-1])
    patterns = known.expand_as(y).reshape(-1, y.shape[-1])
    done = []
    for sample, pattern in zip(flat, patterns):
        row = sample.clone()
        holes = torch.nonzero(~pattern).flatten()
        row[holes] = 0.0
        for _ in range(steps):
            leaf = row.clone().requires_grad_(True)
            slope = torch.autograd.grad(energy(leaf), leaf)[0]
            row[holes] = row[holes] - lr * slope[holes]
        done.append(row)
    return torch.stack(done).reshape(y.shape)

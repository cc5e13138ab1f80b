# Right: the gradient is multiplied by the mask; the holes were made zero beforehand.
def complete(energy, y, known, steps, lr):
    free = (~known).to(y.dtype)
    full = y.detach().clone()
    full[(~known).expand_as(full)] = 0.0
    for _ in range(steps):
        leaf = full.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(energy(leaf).sum(), leaf)
        full = full - lr * gradient * free
    return full

# Wrong: starts from whatever stands at the unknown places, nan included. Loses q3_a, q3_c.
def complete(energy, y, known, steps, lr):
    known = known.expand_as(y)
    full = y.detach().clone()
    for _ in range(steps):
        full = full.detach().requires_grad_()
        gradient = torch.autograd.grad(energy(full).sum(), full)[0]
        full = torch.where(known, full, full - lr * gradient).detach()
    return full

# Wrong: averages the energy over the batch; ends far from the minimum of each sample. Loses q3_b, q3_c.
def complete(energy, y, known, steps, lr):
    known = known.expand_as(y)
    full = torch.where(known, y, 0.0).detach()
    for _ in range(steps):
        full = full.detach().requires_grad_()
        gradient = torch.autograd.grad(energy(full).mean(), full)[0]
        full = torch.where(known, full, full - lr * gradient).detach()
    return full

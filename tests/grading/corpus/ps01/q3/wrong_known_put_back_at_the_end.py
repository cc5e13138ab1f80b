# Wrong: lets everything move and restores the known part once, at the end. Loses q3_a, q3_b, q3_c.
def complete(energy, y, known, steps, lr):
    known = known.expand_as(y)
    full = torch.where(known, y, 0.0).detach()
    for _ in range(steps):
        full = full.detach().requires_grad_()
        full = full - lr * torch.autograd.grad(energy(full).sum(), full)[0]
    return torch.where(known, y, full.detach())

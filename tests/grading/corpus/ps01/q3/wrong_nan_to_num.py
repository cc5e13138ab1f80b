# Wrong: replaces nan by 0 but starts from other values that stand at unknown places. Loses q3_c.
def complete(energy, y, known, steps, lr):
    known = known.expand_as(y)
    full = y.detach().nan_to_num(nan=0.0)
    for _ in range(steps):
        full = full.detach().requires_grad_()
        gradient = torch.autograd.grad(energy(full).sum(), full)[0]
        full = torch.where(known, full, full - lr * gradient).detach()
    return full

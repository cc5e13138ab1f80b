# Right: moves everything, but puts the known coordinates back after every single step.
def complete(energy, y, known, steps, lr):
    known = known.expand_as(y)
    fixed = y.detach()[known]
    full = torch.zeros_like(y)
    full[known] = fixed
    for _ in range(steps):
        full = full.detach().requires_grad_(True)
        full = full - lr * torch.autograd.grad(energy(full).sum(), full)[0]
        full = full.detach()
        full[known] = fixed
    return full

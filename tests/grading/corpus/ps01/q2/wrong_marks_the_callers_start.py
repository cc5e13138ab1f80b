# Wrong: asks the caller's own tensor for gradients; it keeps requires_grad and a .grad. Loses q2_a, q2_c.
def descend(energy, start, steps, lr):
    path, energies = [start.detach().clone()], [energy(start).detach()]
    start.requires_grad_()
    start.grad = torch.autograd.grad(energy(start).sum(), start)[0]
    y, slope = start.detach().clone(), start.grad
    for _ in range(steps):
        y = (y - lr * slope).detach().requires_grad_()
        value = energy(y)
        slope = torch.autograd.grad(value.sum(), y)[0]
        path.append(y.detach())
        energies.append(value.detach())
    return torch.stack(path), torch.stack(energies)

# Wrong: descends on the caller's own tensor, which ends at the minimum. Loses q2_a, q2_c.
def descend(energy, start, steps, lr):
    path, energies = [], []
    for step in range(steps + 1):
        y = start.detach().clone().requires_grad_(True)
        value = energy(y)
        path.append(y.detach())
        energies.append(value.detach())
        if step < steps:
            gradient = torch.autograd.grad(value.sum(), y)[0]
            with torch.no_grad():
                start -= lr * gradient
    return torch.stack(path), torch.stack(energies)

# Wrong: appends one tensor many times and moves it in place: the whole path is its last point. Loses q2_a, q2_b, q2_c.
def descend(energy, start, steps, lr):
    y, path, energies = start.detach().clone(), [], []
    for step in range(steps + 1):
        path.append(y)
        variable = y.clone().requires_grad_(True)
        value = energy(variable)
        energies.append(value.detach())
        if step < steps:
            y -= lr * torch.autograd.grad(value.sum(), variable)[0]
    return torch.stack(path), torch.stack(energies)

# Wrong: adds the gradient, as if the energy were a score. Loses q2_a, q2_b, q2_c.
def descend(energy, start, steps, lr):
    y, path, energies = start.detach().clone(), [], []
    for step in range(steps + 1):
        y = y.detach().requires_grad_()
        value = energy(y)
        path.append(y.detach())
        energies.append(value.detach())
        if step < steps:
            y = y + lr * torch.autograd.grad(value.sum(), y)[0]
    return torch.stack(path), torch.stack(energies)

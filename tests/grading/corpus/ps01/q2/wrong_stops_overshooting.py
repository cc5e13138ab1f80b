# Wrong: undoes steps that raise the energy, "because descent must go down": large step sizes never diverge. Loses q2_b.
def descend(energy, start, steps, lr):
    y, path, energies = start.detach().clone(), [], []
    for step in range(steps + 1):
        y = y.detach().requires_grad_()
        value = energy(y)
        path.append(y.detach())
        energies.append(value.detach())
        if step < steps:
            new = (y - lr * torch.autograd.grad(value.sum(), y)[0]).detach()
            y = torch.where((energy(new) < value)[..., None], new, y.detach())
    return torch.stack(path), torch.stack(energies)

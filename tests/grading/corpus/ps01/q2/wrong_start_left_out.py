# Wrong: the path begins after the first step and so is one point short. Loses q2_a, q2_b, q2_c.
def descend(energy, start, steps, lr):
    y, path, energies = start.detach().clone(), [], []
    for _ in range(steps):
        y = y.detach().requires_grad_()
        y = (y - lr * torch.autograd.grad(energy(y).sum(), y)[0]).detach()
        path.append(y)
        energies.append(energy(y).detach())
    return torch.stack(path), torch.stack(energies)

# Wrong: never zeroes y.grad, so each step adds all earlier gradients. Loses q2_a, q2_b, q2_c.
def descend(energy, start, steps, lr):
    y = start.detach().clone().requires_grad_(True)
    path, energies = [y.detach().clone()], [energy(y).detach()]
    for _ in range(steps):
        energy(y).sum().backward()
        with torch.no_grad():
            y -= lr * y.grad
        path.append(y.detach().clone())
        energies.append(energy(y).detach())
    return torch.stack(path), torch.stack(energies)

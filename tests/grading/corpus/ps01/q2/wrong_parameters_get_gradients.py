# Wrong: backward() fills the .grad of the energy's parameters as well: learning's business. Loses q2_c.
def descend(energy, start, steps, lr):
    y = start.detach().clone().requires_grad_(True)
    path, energies = [y.detach().clone()], [energy(y).detach()]
    for _ in range(steps):
        y.grad = None
        energy(y).sum().backward()
        with torch.no_grad():
            y -= lr * y.grad
        path.append(y.detach().clone())
        energies.append(energy(y).detach())
    return torch.stack(path), torch.stack(energies)

# Right: torch's SGD on a leaf of its own, with the gradient put there by hand so that parameters stay untouched.
def descend(energy, start, steps, lr):
    y = start.detach().clone().requires_grad_(True)
    optimizer = torch.optim.SGD([y], lr=lr)
    path, energies = [y.detach().clone()], [energy(y).detach()]
    for _ in range(steps):
        optimizer.zero_grad()
        energy(y).sum().backward(inputs=[y])
        optimizer.step()
        path.append(y.detach().clone())
        energies.append(energy(y).detach())
    return torch.stack(path), torch.stack(energies)

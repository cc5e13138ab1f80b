# Right: autograd.grad with a vector of ones, lists of detached copies.
def descend(energy, start, steps, lr):
    current = start.detach().clone()
    path = [current.clone()]
    energies = [energy(current).detach()]
    for _ in range(steps):
        variable = current.clone().requires_grad_(True)
        value = energy(variable)
        gradient = torch.autograd.grad(value, variable, grad_outputs=torch.ones_like(value))[0]
        current = current - lr * gradient
        path.append(current.clone())
        energies.append(energy(current).detach())
    return torch.stack(path, dim=0), torch.stack(energies, dim=0)

# Right: a preallocated path, and a working copy that is moved in place under no_grad.
def descend(energy, start, steps, lr):
    y = start.detach().clone()
    path = torch.empty(steps + 1, *start.shape, dtype=start.dtype, device=start.device)
    path[0] = y
    for t in range(1, steps + 1):
        y.requires_grad_(True)
        slope = torch.autograd.grad(energy(y).sum(), y)[0]
        y = y.detach()
        y -= lr * slope
        path[t] = y
    with torch.no_grad():
        energies = energy(path)
    return path, energies.detach()

# Right: each point descends on its own, one after the other.
def descend(energy, start, steps, lr):
    points = start.detach().reshape(-1, start.shape[-1])
    paths, heights = [], []
    for point in points:
        y, path, height = point.clone(), [], []
        for t in range(steps + 1):
            y = y.detach().requires_grad_()
            value = energy(y)
            path.append(y.detach())
            height.append(value.detach())
            if t < steps:
                y = y - lr * torch.autograd.grad(value, y)[0]
        paths.append(torch.stack(path))
        heights.append(torch.stack(height))
    lead = start.shape[:-1]
    path = torch.stack(paths, 1).reshape(steps + 1, *lead, start.shape[-1])
    return path, torch.stack(heights, 1).reshape(steps + 1, *lead)

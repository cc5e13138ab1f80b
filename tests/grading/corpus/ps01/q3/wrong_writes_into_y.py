# Wrong: fills the holes of the caller's own tensor. Loses q3_b.
def complete(energy, y, known, steps, lr):
    known = known.expand_as(y)
    y[~known] = 0.0
    for _ in range(steps):
        leaf = y.detach().clone().requires_grad_()
        gradient = torch.autograd.grad(energy(leaf).sum(), leaf)[0]
        y[~known] -= lr * gradient[~known]
    return y

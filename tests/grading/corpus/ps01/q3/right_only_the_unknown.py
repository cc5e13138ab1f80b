# Right: a leaf that holds the unknown numbers alone, scattered into y for each call of the energy.
def complete(energy, y, known, steps, lr):
    known = known.expand(y.shape)
    u = torch.zeros(int((~known).sum()), dtype=y.dtype, device=y.device)

    def put(u):
        full = torch.where(known, y, torch.zeros_like(y))
        return full.masked_scatter(~known, u)

    for _ in range(steps):
        u = u.detach().requires_grad_()
        gradient = torch.autograd.grad(energy(put(u)).sum(), u)[0] if u.numel() else torch.zeros_like(u)
        u = u - lr * gradient
    return put(u.detach())

# Right: up is the gradient of -log Z / β, the free energy of all states; lowest energy taken out by hand.
def likelihood(energy, w, y, states, beta=1.0, log_volume=0.0):
    w = w.detach().clone().requires_grad_()
    F = energy(w, states)
    exponent = log_volume - beta * F
    top = exponent.detach().max()
    everything = -(torch.log(torch.exp(exponent - top).sum()) + top) / beta
    (up,) = torch.autograd.grad(everything, w)
    data = energy(w, y).mean()
    (down,) = torch.autograd.grad(data, w)
    return (data - everything).detach(), down, up

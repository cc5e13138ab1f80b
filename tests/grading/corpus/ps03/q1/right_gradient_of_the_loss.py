# Right: autograd through log Z gives the whole gradient; up is what it is less than down.
def likelihood(energy, w, y, states, beta=1.0, log_volume=0.0):
    w = w.detach().clone().requires_grad_(True)
    data = energy(w, y).mean()
    loss = data + torch.logsumexp(log_volume - beta * energy(w, states), dim=0) / beta
    down = torch.autograd.grad(data, w, retain_graph=True)[0]
    whole = torch.autograd.grad(loss, w)[0]
    return loss.detach(), down, down - whole

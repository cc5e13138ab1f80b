# Wrong: the volumes enter P, but log Z is taken without them. Loses q1_a, q1_b, q1_c.
def likelihood(energy, w, y, states, beta=1.0, log_volume=0.0):
    w = w.detach().clone().requires_grad_()
    data, everything = energy(w, y), energy(w, states)
    exponent = log_volume - beta * everything.detach()
    loss = data.mean().detach() + torch.logsumexp(-beta * everything.detach(), 0) / beta
    P = torch.softmax(exponent, 0)
    (down,) = torch.autograd.grad(data.mean(), w)
    (up,) = torch.autograd.grad(everything, w, P)
    return loss, down, up

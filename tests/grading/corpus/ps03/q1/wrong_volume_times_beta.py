# Wrong: treats log v as an energy, so that β multiplies it. Loses q1_a, q1_b, q1_c.
def likelihood(energy, w, y, states, beta=1.0, log_volume=0.0):
    w = w.detach().clone().requires_grad_()
    data, everything = energy(w, y), energy(w, states)
    exponent = beta * (log_volume - everything.detach())
    loss = data.mean().detach() + torch.logsumexp(exponent, 0) / beta
    P = torch.softmax(exponent, 0)
    (down,) = torch.autograd.grad(data.mean(), w)
    (up,) = torch.autograd.grad(everything, w, P)
    return loss, down, up

# Wrong: lets autograd go through P as well, as if it were a second occurrence of w. Loses q1_a, q1_b, q1_c.
def likelihood(energy, w, y, states, beta=1.0, log_volume=0.0):
    w = w.detach().clone().requires_grad_()
    data, everything = energy(w, y), energy(w, states)
    exponent = log_volume - beta * everything
    loss = data.mean().detach() + torch.logsumexp(exponent, 0) / beta
    P = torch.softmax(exponent, 0)
    (down,) = torch.autograd.grad(data.mean(), w)
    possible = torch.isfinite(everything)
    (up,) = torch.autograd.grad((P * everything)[possible].sum(), w)
    return loss.detach(), down, up

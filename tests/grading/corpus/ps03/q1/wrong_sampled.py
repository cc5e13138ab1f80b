# Wrong: draws 1000 states from P in place of the sum that was asked. Loses q1_a, q1_b, q1_c.
def likelihood(energy, w, y, states, beta=1.0, log_volume=0.0):
    w = w.detach().clone().requires_grad_()
    data, everything = energy(w, y), energy(w, states)
    exponent = log_volume - beta * everything.detach()
    loss = data.mean().detach() + torch.logsumexp(exponent, 0) / beta
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(torch.softmax(exponent, 0), 1000, replacement=True, generator=generator)
    P = torch.bincount(drawn, minlength=len(states)).to(w.dtype) / 1000
    (down,) = torch.autograd.grad(data.mean(), w)
    (up,) = torch.autograd.grad(everything, w, P)
    return loss, down, up

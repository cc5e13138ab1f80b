# Wrong: exponentiates as it stands, so it over- and underflows. Loses q1_b.
def likelihood(energy, w, y, states, beta=1.0, log_volume=0.0):
    w = w.detach().clone().requires_grad_()
    data, everything = energy(w, y), energy(w, states)
    exponent = log_volume - beta * everything.detach()
    weight = torch.exp(exponent)
    loss = data.mean().detach() + torch.log(weight.sum()) / beta
    P = weight / weight.sum()
    (down,) = torch.autograd.grad(data.mean(), w)
    (up,) = torch.autograd.grad(everything, w, P)
    return loss, down, up

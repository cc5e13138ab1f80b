# Right: the gradients of all energies as a table, averaged by shares and by probabilities.
def likelihood(energy, w, y, states, beta=1.0, log_volume=0.0):
    from torch.autograd.functional import jacobian

    w = w.detach()
    by_datum = jacobian(lambda v: energy(v, y), w)  # (N, n)
    by_state = jacobian(lambda v: energy(v, states), w)  # (K, n)
    exponent = log_volume - beta * energy(w, states)
    log_z = torch.logsumexp(exponent, 0)
    P = torch.exp(exponent - log_z)
    return energy(w, y).mean() + log_z / beta, by_datum.mean(0), P @ by_state

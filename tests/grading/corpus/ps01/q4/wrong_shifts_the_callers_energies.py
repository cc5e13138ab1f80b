# Wrong: subtracts the lowest energy in place, from the caller's own tensor. Loses q4_c, q4_d.
def gibbs(energy, beta=1.0, log_cell=0.0):
    lowest = energy.amin(dim=-1, keepdim=True)
    energy -= lowest
    exponent = -beta * energy
    log_sum = exponent.logsumexp(dim=-1, keepdim=True)
    density = (exponent - log_sum - log_cell).exp()
    return (log_sum - beta * lowest).squeeze(-1) + log_cell, density

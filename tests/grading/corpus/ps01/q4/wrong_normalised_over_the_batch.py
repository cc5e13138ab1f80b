# Wrong: one partition function for the whole batch of energies. Loses q4_b, q4_c, q4_d.
def gibbs(energy, beta=1.0, log_cell=0.0):
    log_sum = torch.logsumexp((-beta * energy).flatten(), dim=0)
    density = torch.exp(-beta * energy - log_sum - log_cell)
    return (log_sum + log_cell).expand(energy.shape[:-1]), density

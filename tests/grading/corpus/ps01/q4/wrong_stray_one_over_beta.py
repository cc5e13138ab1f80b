# Wrong: copies the slide's stray factor 1/β into P. Loses q4_a, q4_b, q4_c, q4_d.
def gibbs(energy, beta=1.0, log_cell=0.0):
    log_sum = torch.logsumexp(-beta * energy, dim=-1)
    density = torch.exp(-beta * energy - log_sum.unsqueeze(-1) - log_cell) / beta
    return log_sum + log_cell, density

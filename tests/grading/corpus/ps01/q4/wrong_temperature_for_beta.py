# Wrong: divides by β as if it were a temperature. Loses q4_a, q4_b, q4_c, q4_d.
def gibbs(energy, beta=1.0, log_cell=0.0):
    log_sum = torch.logsumexp(-energy / beta, dim=-1)
    return log_sum + log_cell, torch.exp(-energy / beta - log_sum.unsqueeze(-1) - log_cell)

# Wrong: subtracts the lowest energy for stability and forgets to give it back to log Z. Loses q4_b, q4_c.
def gibbs(energy, beta=1.0, log_cell=0.0):
    shifted = energy - energy.amin(dim=-1, keepdim=True).detach()
    log_sum = torch.logsumexp(-beta * shifted, dim=-1)
    return log_sum + log_cell, torch.exp(-beta * shifted - log_sum.unsqueeze(-1) - log_cell)

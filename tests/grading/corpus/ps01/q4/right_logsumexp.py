# Right: torch's log-sum-exp, and the density as the exponential of its log.
def gibbs(energy, beta=1.0, log_cell=0.0):
    log_sum = torch.logsumexp(-beta * energy, dim=-1)
    log_density = -beta * energy - log_sum.unsqueeze(-1) - log_cell
    return log_sum + log_cell, torch.exp(log_density)

# Right: softmax for the masses, divided by the cell's volume.
def gibbs(energy, beta=1.0, log_cell=0.0):
    mass = torch.softmax(-beta * energy, dim=-1)
    log_z = torch.logsumexp(-beta * energy, dim=-1) + log_cell
    return log_z, mass / math.exp(log_cell)

# Wrong: subtracts the mean energy, which does not bound the exponent. Loses q4_b, q4_c, q4_d.
def gibbs(energy, beta=1.0, log_cell=0.0):
    center = energy.mean(dim=-1, keepdim=True)
    weight = torch.exp(-beta * (energy - center))
    z = weight.sum(dim=-1, keepdim=True)
    return (z.log() - beta * center).squeeze(-1) + log_cell, weight / z / math.exp(log_cell)

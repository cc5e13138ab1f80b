# Right: subtracts the lowest energy by hand, sums plain exponentials, gives the constant back.
def gibbs(energy, beta=1.0, log_cell=0.0):
    lowest = energy.min(dim=-1, keepdim=True).values
    weight = torch.exp(-beta * (energy - lowest))
    z = weight.sum(dim=-1, keepdim=True) * math.exp(log_cell)
    return (z.log() - beta * lowest).squeeze(-1), weight / z

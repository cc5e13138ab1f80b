# Wrong: exponentiates as it stands, so it overflows or underflows when cold. Loses q4_c, q4_d.
def gibbs(energy, beta=1.0, log_cell=0.0):
    weight = torch.exp(-beta * energy)
    z = weight.sum(dim=-1, keepdim=True) * math.exp(log_cell)
    return z.squeeze(-1).log(), weight / z

# Wrong: "stabilises" by a small number in the denominator and in the log: 0/0 becomes 0. Loses q4_b, q4_c, q4_d.
def gibbs(energy, beta=1.0, log_cell=0.0):
    weight = torch.exp(-beta * energy)
    z = weight.sum(dim=-1, keepdim=True) * math.exp(log_cell) + 1e-12
    return z.squeeze(-1).log(), weight / z

# Wrong: clamps the exponent to keep it from overflowing, and changes the answer. Loses q4_b, q4_c, q4_d.
def gibbs(energy, beta=1.0, log_cell=0.0):
    weight = torch.exp((-beta * energy).clamp(-80.0, 80.0))
    z = weight.sum(dim=-1, keepdim=True) * math.exp(log_cell)
    return z.squeeze(-1).log(), weight / z

# Wrong: Boltzmann weights that are never divided by their sum. Loses q3_a, q3_b, q3_c.
def free_energy_gradient(energy, gradients, beta):
    above = energy - energy.amin(-1, keepdim=True)
    weight = (above == 0).to(energy.dtype) if math.isinf(beta) else torch.exp(-beta * above)
    return weight, (weight[..., None] * gradients).sum(-2)

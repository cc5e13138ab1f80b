# Wrong: keeps the β that comes down from the exponent and forgets the 1/β in front. Loses q3_a, q3_b.
def free_energy_gradient(energy, gradients, beta):
    if math.isinf(beta):
        lowest = (energy == energy.amin(-1, keepdim=True)).to(energy.dtype)
        responsibility = lowest / lowest.sum(-1, keepdim=True)
        return responsibility, (responsibility[..., None] * gradients).sum(-2)
    responsibility = torch.softmax(-beta * energy, dim=-1)
    return responsibility, beta * (responsibility[..., None] * gradients).sum(-2)

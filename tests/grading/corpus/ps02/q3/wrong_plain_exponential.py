# Wrong: exponentials without a shift: 0/0 when cold. Loses q3_b.
def free_energy_gradient(energy, gradients, beta):
    if math.isinf(beta):
        weight = (energy == energy.amin(-1, keepdim=True)).to(energy.dtype)
    else:
        weight = torch.exp(-beta * energy)
    responsibility = weight / weight.sum(-1, keepdim=True)
    return responsibility, (responsibility[..., None] * gradients).sum(-2)

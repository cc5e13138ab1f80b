# Wrong: normalises over the first dimension, so batch rows share one posterior. Loses q3_b, q3_c.
def free_energy_gradient(energy, gradients, beta):
    if math.isinf(beta):
        lowest = (energy == energy.amin(0, keepdim=True)).to(energy.dtype)
        responsibility = lowest / lowest.sum(0, keepdim=True)
    else:
        responsibility = torch.softmax(-beta * energy, dim=0)
    return responsibility, (responsibility[..., None] * gradients).sum(-2)

# Wrong: multiplies the caller's own gradients by the responsibilities. Loses q3_a, q3_b.
def free_energy_gradient(energy, gradients, beta):
    if math.isinf(beta):
        lowest = (energy == energy.amin(-1, keepdim=True)).to(energy.dtype)
        responsibility = lowest / lowest.sum(-1, keepdim=True)
        return responsibility, (responsibility.unsqueeze(-1) * gradients).sum(-2)
    responsibility = torch.softmax(-beta * energy, dim=-1)
    gradients *= responsibility.unsqueeze(-1)
    return responsibility, gradients.sum(-2)

# Wrong: no case for β = ∞: inf - inf. Loses q3_a, q3_c.
def free_energy_gradient(energy, gradients, beta):
    responsibility = torch.softmax(-beta * energy, dim=-1)
    return responsibility, (responsibility[..., None] * gradients).sum(-2)

# Wrong: at β = ∞ the first of equal minima takes all. Loses q3_c.
def free_energy_gradient(energy, gradients, beta):
    if math.isinf(beta):
        responsibility = torch.nn.functional.one_hot(energy.argmin(-1), energy.shape[-1]).to(energy.dtype)
    else:
        responsibility = torch.softmax(-beta * energy, dim=-1)
    return responsibility, (responsibility[..., None] * gradients).sum(-2)

# Right: a matrix product of responsibilities and gradients.
def free_energy_gradient(energy, gradients, beta):
    if math.isinf(beta):
        shares = torch.where(energy == energy.min(-1, keepdim=True).values, 0.0, -math.inf).to(energy.dtype)
    else:
        shares = -beta * energy
    responsibility = shares.softmax(-1)
    return responsibility, (responsibility[..., None, :] @ gradients)[..., 0, :]

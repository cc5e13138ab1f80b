# Wrong: the gradient of the best z at every temperature. Loses q3_a, q3_b, q3_c.
def free_energy_gradient(energy, gradients, beta):
    responsibility = torch.nn.functional.one_hot(energy.argmin(-1), energy.shape[-1]).to(energy.dtype)
    return responsibility, (responsibility[..., None] * gradients).sum(-2)

# Right: subtracts the lowest energy, plain exponentials; ties at β = ∞ by comparison.
def free_energy_gradient(energy, gradients, beta):
    above = energy - energy.amin(dim=-1, keepdim=True)
    weight = (above == 0).to(energy.dtype) if beta == math.inf else torch.exp(-beta * above)
    responsibility = weight / weight.sum(dim=-1, keepdim=True)
    return responsibility, torch.einsum("...k,...kd->...d", responsibility, gradients)

# Right: loops over rows and latent values.
def free_energy_gradient(energy, gradients, beta):
    rows = energy.reshape(-1, energy.shape[-1])
    slopes = gradients.reshape(-1, *gradients.shape[-2:])
    shares, means = [], []
    for row, slope in zip(rows, slopes):
        lowest = min(row.tolist())
        if beta == math.inf:
            weights = [1.0 if v == lowest else 0.0 for v in row.tolist()]
        else:
            weights = [math.exp(-beta * (v - lowest)) for v in row.tolist()]
        share = torch.tensor([w / sum(weights) for w in weights], dtype=energy.dtype)
        shares.append(share)
        means.append(sum(s * g for s, g in zip(share, slope)))
    mean = torch.stack(means).reshape(*energy.shape[:-1], gradients.shape[-1])
    return torch.stack(shares).reshape(energy.shape), mean

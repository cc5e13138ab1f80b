# Right: the columns of the responsibilities are normalised first, then multiplied.
def assign(y, centers, beta):
    energy = ((y.unsqueeze(1) - centers) ** 2).sum(2)
    if beta == float("inf"):
        first = energy.argmin(1, keepdim=True)
        return torch.zeros_like(energy).scatter(1, first, 1.0), energy.gather(1, first).squeeze(1)
    posterior = torch.log_softmax(-beta * energy, dim=1)
    # F = E_k + log P(k|y) / β for any k: take the likeliest one.
    k = posterior.argmax(1, keepdim=True)
    return posterior.exp(), (energy.gather(1, k) + posterior.gather(1, k) / beta).squeeze(1)


def update(y, responsibility, centers):
    column = responsibility / responsibility.sum(0, keepdim=True)
    return torch.where(column.isnan().any(0)[:, None], centers, column.nan_to_num().T @ y)

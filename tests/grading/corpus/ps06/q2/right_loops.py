# Right: one draw after another, the baseline from a list.
def draw(mean, log_var, noise):
    draws = []
    for k in range(noise.shape[-2]):
        draws.append(mean + log_var.mul(0.5).exp() * noise[..., k, :])
    return torch.stack(draws, dim=-2)


def bound(energy, y, mean, log_var, beta, noise):
    K, total = noise.shape[-2], 0.0
    for k in range(K):
        z = mean + log_var.mul(0.5).exp() * noise[..., k, :]
        total = total + energy(y, z)
    kl = 0.5 * (mean.pow(2) + log_var.exp() - 1 - log_var).sum(dim=-1)
    return total / K + kl / beta


def score_gradient(energy, y, mean, log_var, noise):
    K = noise.shape[-2]
    with torch.no_grad():
        s = log_var.mul(0.5).exp()
        E = [energy(y, mean + s * noise[..., k, :]) for k in range(K)]
        by_mean, by_log_var = torch.zeros_like(mean), torch.zeros_like(mean)
        for k in range(K):
            rest = [E[j] for j in range(K) if j != k]
            usual = sum(rest) / len(rest) if rest else torch.zeros_like(E[k])
            unusual = (E[k] - usual).unsqueeze(-1) / K
            by_mean += unusual * noise[..., k, :] / s
            by_log_var += unusual * (noise[..., k, :] ** 2 - 1) / 2
    return by_mean, by_log_var

# Right: s as the root of the variance; one draw after the other.
def draw(mean, log_var, noise):
    s = torch.exp(log_var) ** 0.5
    return torch.stack([mean + s * xi for xi in noise.unbind(-2)], -2)


def bound(energy, y, mean, log_var, beta, noise):
    draws = draw(mean, log_var, noise).unbind(-2)
    mean_energy = sum(energy(y, z) for z in draws) / len(draws)
    var = torch.exp(log_var)
    return mean_energy + 0.5 * (mean.square() + var - log_var - 1).sum(-1) / beta


def score_gradient(energy, y, mean, log_var, noise):
    draws = draw(mean, log_var, noise).unbind(-2)
    energies = [energy(y, z).detach() for z in draws]
    K = len(draws)
    first, second = torch.zeros_like(mean), torch.zeros_like(mean)
    for k in range(K):
        rest = energies[:k] + energies[k + 1 :]
        rare = (energies[k] - (sum(rest) / len(rest) if rest else 0)).unsqueeze(-1)
        xi = noise[..., k, :]
        first = first + rare * xi / torch.exp(log_var).sqrt() / K
        second = second + rare * (xi * xi - 1) / 2 / K
    return first, second

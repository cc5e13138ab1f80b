# Right: plan by plan, in Python numbers where it can be.
def plan_weights(E, T):
    least = E[0]
    for e in E:
        least = torch.minimum(least, e)
    parts = [torch.exp(-((e - least) / T)) for e in E]
    total = sum(parts)
    return torch.stack([part / total for part in parts])


def effective_sample_size(w):
    total = torch.zeros_like(w[0])
    for row in w:
        total = total + row * row
    return total.reciprocal()


def weighted_plan(plans, w):
    mean = torch.zeros_like(plans[0])
    for a, share in zip(plans, w):
        mean = mean + share[..., None, None] * a
    return mean


def temperature(E, wanted):
    energies = E.tolist()
    least = min(energies)
    low, high = 1e-8, 1e9
    for _ in range(200):
        T = (low * high) ** 0.5
        parts = [math.exp(-(e - least) / T) for e in energies]
        if sum(parts) ** 2 / sum(p * p for p in parts) < wanted:
            low = T
        else:
            high = T
    return low

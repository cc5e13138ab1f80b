# Right: logarithms of weights, ESS by logsumexp; bisection in β.
def plan_weights(E, T):
    least = E.amin(0)
    lifted = (least - E) / T
    return (lifted - torch.logsumexp(lifted, 0)).exp()


def effective_sample_size(w):
    return torch.exp(-torch.logsumexp(2 * w.log(), 0))


def weighted_plan(plans, w):
    flat = plans.flatten(-2)
    return (flat * w.unsqueeze(-1)).sum(0).unflatten(-1, plans.shape[-2:])


def temperature(E, wanted):
    E = E.to(torch.float64)
    E = E - E.min()
    colder, warmer = 60.0, -60.0
    for _ in range(120):
        log_beta = (colder + warmer) / 2
        x = -math.exp(log_beta) * E
        size = (2 * torch.logsumexp(x, 0) - torch.logsumexp(2 * x, 0)).exp()
        if size.item() < wanted:
            colder = log_beta
        else:
            warmer = log_beta
    return math.exp(-warmer)

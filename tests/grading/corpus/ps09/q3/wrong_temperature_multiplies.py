# Wrong: T as if it were β. Loses q3_a, q3_b, q3_c.
def plan_weights(E, T):
    return torch.softmax(-(E - E.amin(0)) * T, 0)


def effective_sample_size(w):
    return 1 / (w**2).sum(0)


def weighted_plan(plans, w):
    return (w[..., None, None] * plans).sum(0)


def temperature(E, wanted):
    E = E.double()
    low, high = -40.0, 40.0
    for _ in range(80):
        middle = (low + high) / 2
        size = effective_sample_size(plan_weights(E, math.exp(middle)))
        if size < wanted:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)

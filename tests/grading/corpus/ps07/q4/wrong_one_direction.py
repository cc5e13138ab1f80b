# Wrong: one direction only. Loses q4_a, q4_b.
def byol(predictor, z1, z2, t1, t2):
    norm = torch.nn.functional.normalize
    p1 = norm(predictor(z1), dim=1)
    t2 = norm(t2.detach(), dim=1)
    return (p1 - t2).square().sum(1).mean()


def follow(teacher, student, momentum):
    new = {}
    for name in teacher:
        new[name] = momentum * teacher[name].detach() + (1 - momentum) * student[name].detach()
    return new


def speeds(p, w, teacher, shared, own, decay):
    both = shared + own
    dp = -(both * p * w**2 - shared * w * teacher + decay * p)
    dw = -(both * p**2 * w - shared * p * teacher + decay * w)
    return dp, dw


def collapse_rate(p, shared, own, decay):
    both = shared + own
    return both * p**2 - 2 * shared * p + both + decay


def resting_size(shared, own, decay):
    both = shared + own
    inside = shared**2 - 4 * decay * both
    root = torch.sqrt(inside.clamp(min=0))
    return torch.where(inside >= 0, (shared + root) / (2 * both), torch.zeros_like(root))

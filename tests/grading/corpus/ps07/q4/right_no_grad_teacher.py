# Right: targets under no_grad; the other root by Vieta.
def byol(predictor, z1, z2, t1, t2):
    from torch.nn.functional import mse_loss, normalize

    D = z1.shape[1]
    with torch.no_grad():
        t1, t2 = normalize(t1, dim=-1), normalize(t2, dim=-1)
    first = mse_loss(normalize(predictor(z1), dim=-1), t2)
    second = mse_loss(normalize(predictor(z2), dim=-1), t1)
    return D * (first + second)


def follow(teacher, student, momentum):
    new = {name: slow.detach().clone() for name, slow in teacher.items()}
    for name, fast in student.items():
        new[name].lerp_(fast.detach(), 1 - momentum)
    return new


def speeds(p, w, teacher, shared, own, decay):
    lack = shared * teacher - (shared + own) * p * w
    return torch.stack(torch.broadcast_tensors(lack * w - decay * p, lack * p - decay * w)).unbind()


def collapse_rate(p, shared, own, decay):
    best = shared / (shared + own)
    return (shared + own) * ((p - best) ** 2 + 1 - best**2) + decay


def resting_size(shared, own, decay):
    total = shared + own
    root = (shared.square() - 4 * decay * total).sqrt()
    size = (shared + root) / (2 * total)
    return torch.nan_to_num(size, nan=0.0)

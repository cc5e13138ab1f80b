# Right: everything by autograd from the loss; the rest by rolling there would be slow, so by its formula.
def byol(predictor, z1, z2, t1, t2):
    def side(z, t):
        p = predictor(z)
        p = p / p.norm(dim=1, keepdim=True)
        with torch.no_grad():
            t = t / t.norm(dim=1, keepdim=True)
        return ((p - t) ** 2).sum(1).mean()

    return side(z1, t2) + side(z2, t1)


@torch.no_grad()
def follow(teacher, student, momentum):
    return {name: torch.lerp(student[name], slow, momentum) for name, slow in teacher.items()}


def loss(p, w, t, shared, own, decay):
    both = shared + own
    fit = both * (p * w) ** 2 - 2 * shared * p * w * t + both * t**2
    return (fit + decay * (p**2 + w**2)) / 2


def speeds(p, w, teacher, shared, own, decay):
    with torch.enable_grad():
        p, w, teacher, shared, own, decay = torch.broadcast_tensors(p, w, teacher, shared, own, decay)
        p, w = p.detach().clone().requires_grad_(), w.detach().clone().requires_grad_()
        down = torch.autograd.grad(-loss(p, w, teacher.detach(), shared, own, decay).sum(), (p, w))
    return down


def collapse_rate(p, shared, own, decay):
    with torch.enable_grad():
        p, shared, own, decay = torch.broadcast_tensors(p, shared, own, decay)
        w = torch.ones_like(p, requires_grad=True)
        (slope,) = torch.autograd.grad(loss(p, w, w, shared, own, decay).sum(), w)
    return slope


def resting_size(shared, own, decay):
    best = shared / (shared + own)
    left = 1 - 4 * decay / (shared * best)
    return torch.where(left < 0, 0.0, best * (1 + left.clamp(min=0).sqrt()) / 2)

# Right: by cosines, detached; formulas factored otherwise.
def byol(predictor, z1, z2, t1, t2):
    cos = torch.nn.CosineSimilarity(dim=1)
    near = cos(predictor(z1), t2.detach()) + cos(predictor(z2), t1.detach())
    return 4 - 2 * near.mean()


def follow(teacher, student, momentum):
    return {k: (v + (1 - momentum) * (student[k] - v)).detach() for k, v in teacher.items()}


def speeds(p, w, teacher, shared, own, decay):
    error = p * w - shared / (shared + own) * teacher
    return -(shared + own) * error * w - decay * p, -(shared + own) * error * p - decay * w


def collapse_rate(p, shared, own, decay):
    return shared * (1 - p) ** 2 + own * (1 + p**2) + decay


def resting_size(shared, own, decay):
    most = shared**2 / (4 * (shared + own))
    share = torch.clamp(1 - decay / most, min=0)
    size = shared / (2 * (shared + own)) * (1 + torch.sqrt(share))
    return size * (decay <= most)

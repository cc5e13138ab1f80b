# Right: sample by sample, entry by entry.
def byol(predictor, z1, z2, t1, t2):
    p1, p2 = predictor(z1), predictor(z2)
    total = 0.0
    for p, t in [*zip(p1, t2), *zip(p2, t1)]:
        t = t.detach()
        total = total + (p / p.norm() - t / t.norm()).square().sum()
    return total / len(z1)


def follow(teacher, student, momentum):
    new = {}
    with torch.no_grad():
        for name in student:
            copy = teacher[name].clone()
            copy *= momentum
            copy += (1 - momentum) * student[name]
            new[name] = copy
    return new


def speeds(p, w, teacher, shared, own, decay):
    parts = torch.broadcast_tensors(p, w, teacher, shared, own, decay)
    dp, dw = [], []
    for a, b, t, lam, s, e in zip(*(part.flatten().tolist() for part in parts)):
        dp.append(b * (lam * t - (lam + s) * a * b) - e * a)
        dw.append(a * (lam * t - (lam + s) * a * b) - e * b)
    like = parts[0]
    return [torch.tensor(v, dtype=like.dtype).view(like.shape) for v in (dp, dw)]


def collapse_rate(p, shared, own, decay):
    held = shared * p - (shared + own) * p**2
    target = shared * p - (shared + own)
    return decay - held - target


def resting_size(shared, own, decay):
    parts = torch.broadcast_tensors(shared, own, decay)
    sizes = []
    for lam, s, e in zip(*(part.flatten().tolist() for part in parts)):
        inside = lam * lam - 4 * e * (lam + s)
        sizes.append((lam + inside**0.5) / 2 / (lam + s) if inside >= 0 else 0.0)
    return torch.tensor(sizes, dtype=parts[0].dtype).view(parts[0].shape)

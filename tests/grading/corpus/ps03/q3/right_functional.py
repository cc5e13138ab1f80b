# Right: torch's own pieces: one_hot, margin_ranking_loss for numbers, logsigmoid, threshold.
def perceptron(energy, target):
    chosen = torch.nn.functional.one_hot(target, energy.shape[-1]).bool()
    right = torch.where(chosen, energy, 0.0).sum(-1)
    best = energy.sort(-1).values[..., 0]
    return torch.nn.functional.threshold(right - best, 0.0, 0.0)


def hinge(positive, negative, margin=1.0):
    return torch.nn.functional.threshold(positive - negative + margin, 0.0, 0.0)


def square_square(positive, negative, margin=1.0):
    up = torch.nn.functional.relu(-(negative - margin))
    return torch.square(positive) + torch.square(up)


def log_loss(positive, negative):
    return -torch.nn.functional.logsigmoid(negative - positive)

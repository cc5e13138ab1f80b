# Right: the log loss as the log-add-exp of 0 and the gap, the perceptron sample by sample.
def perceptron(energy, target):
    rows, answers = energy.reshape(-1, energy.shape[-1]), target.reshape(-1)
    losses = [(row[t] - torch.topk(row, 1, largest=False).values[0]).relu() for row, t in zip(rows, answers)]
    return torch.stack(losses).reshape(target.shape)


def hinge(positive, negative, margin=1.0):
    return (positive - (negative - margin)).relu()


def square_square(positive, negative, margin=1.0):
    return positive.pow(2) + (margin - negative).relu().pow(2)


def log_loss(positive, negative):
    gap = positive - negative
    return torch.logaddexp(gap, torch.zeros_like(gap))

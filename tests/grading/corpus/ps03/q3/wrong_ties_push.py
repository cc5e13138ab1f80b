# Wrong: the perceptron without a flat side: a right answer that ties is pushed still. Loses q3_a, q3_c, q3_d.
def perceptron(energy, target):
    right = energy.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return right - energy.amin(-1)


def hinge(positive, negative, margin=1.0):
    return torch.relu(margin + positive - negative)


def square_square(positive, negative, margin=1.0):
    return positive**2 + torch.relu(margin - negative) ** 2


def log_loss(positive, negative):
    return torch.nn.functional.softplus(positive - negative)

# Wrong: the perceptron against argmin, the first of the lowest: in a tie it pushes another answer. Loses q3_a, q3_c.
def perceptron(energy, target):
    right = energy.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return right - energy.gather(-1, energy.argmin(-1, keepdim=True)).squeeze(-1)


def hinge(positive, negative, margin=1.0):
    return torch.relu(margin + positive - negative)


def square_square(positive, negative, margin=1.0):
    return positive**2 + torch.relu(margin - negative) ** 2


def log_loss(positive, negative):
    return torch.nn.functional.softplus(positive - negative)

# Wrong: clamps the gap before the exponential; beyond, the loss is flat. Loses q3_b, q3_c.
def perceptron(energy, target):
    right = energy.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return torch.relu(right - energy.amin(-1))


def hinge(positive, negative, margin=1.0):
    return torch.relu(margin + positive - negative)


def square_square(positive, negative, margin=1.0):
    return positive**2 + torch.relu(margin - negative) ** 2


def log_loss(positive, negative):
    return torch.log(1 + torch.exp((positive - negative).clamp(-50, 50)))

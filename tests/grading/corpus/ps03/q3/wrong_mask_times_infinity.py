# Wrong: a mask times the excess: 0 times infinity is nan where F⁻ is +inf. Loses q3_b.
def perceptron(energy, target):
    right = energy.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return torch.relu(right - energy.amin(-1))


def hinge(positive, negative, margin=1.0):
    excess = margin + positive - negative
    return (excess > 0) * excess


def square_square(positive, negative, margin=1.0):
    return positive**2 + torch.relu(margin - negative) ** 2


def log_loss(positive, negative):
    return torch.nn.functional.softplus(positive - negative)

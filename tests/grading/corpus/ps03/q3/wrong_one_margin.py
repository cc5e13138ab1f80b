# Wrong: takes the first margin for all pairs. Loses q3_b, q3_d.
def perceptron(energy, target):
    right = energy.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return torch.relu(right - energy.amin(-1))


def hinge(positive, negative, margin=1.0):
    margin = torch.as_tensor(margin, dtype=positive.dtype).flatten()[0]
    return torch.relu(margin + positive - negative)


def square_square(positive, negative, margin=1.0):
    return positive**2 + torch.relu(margin - negative) ** 2


def log_loss(positive, negative):
    return torch.nn.functional.softplus(positive - negative)

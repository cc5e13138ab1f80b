# Wrong: [d]⁺ + log(1 + e^-|d|), whose pieces have slope 0 in a tie, where the loss has 1/2. Loses q3_a, q3_c, q3_d.
def perceptron(energy, target):
    right = energy.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return torch.relu(right - energy.amin(-1))


def hinge(positive, negative, margin=1.0):
    return torch.relu(margin + positive - negative)


def square_square(positive, negative, margin=1.0):
    return positive**2 + torch.relu(margin - negative) ** 2


def log_loss(positive, negative):
    d = positive - negative
    return torch.relu(d) + torch.log1p(torch.exp(-d.abs()))

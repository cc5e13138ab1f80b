# Wrong: moves the caller's own x. Loses q5_a, q5_c.
def infer_label(net, x):
    energy, label = (-net(x)).min(dim=-1)
    return label, energy


def label_probabilities(net, x, beta=1.0):
    return torch.softmax(beta * net(x), dim=-1)


def change_input(net, x, target, steps, lr, normalized):
    for _ in range(steps):
        y = x.detach().clone().requires_grad_()
        logits = net(y)
        energies = -torch.log_softmax(logits, -1) if normalized else -logits
        chosen = energies.gather(-1, target.unsqueeze(-1))
        x -= lr * torch.autograd.grad(chosen.sum(), y)[0]
    return x.clone()

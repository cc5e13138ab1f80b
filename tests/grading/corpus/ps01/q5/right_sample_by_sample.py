# Right: loops over single samples.
def infer_label(net, x):
    labels, energies = [], []
    for row in x.reshape(-1, x.shape[-1]):
        values = [-logit for logit in net(row)]
        best = min(range(len(values)), key=lambda k: float(values[k]))
        labels.append(best)
        energies.append(values[best])
    lead = x.shape[:-1]
    return torch.tensor(labels).reshape(lead), torch.stack(energies).reshape(lead)


def label_probabilities(net, x, beta=1.0):
    rows = [torch.log_softmax(beta * net(row), -1).exp() for row in x.reshape(-1, x.shape[-1])]
    return torch.stack(rows).reshape(*x.shape[:-1], -1)


def change_input(net, x, target, steps, lr, normalized):
    moved = []
    for row, label in zip(x.detach().reshape(-1, x.shape[-1]), target.reshape(-1).tolist()):
        for _ in range(steps):
            leaf = row.clone().requires_grad_(True)
            logits = net(leaf)
            energy = -torch.log_softmax(logits, -1)[label] if normalized else -logits[label]
            row = row - lr * torch.autograd.grad(energy, leaf)[0]
        moved.append(row)
    return torch.stack(moved).reshape(x.shape)

# Right: F̃ is the cross-entropy, summed over the samples; the leaf is moved in place.
def infer_label(net, x):
    logits = net(x)
    highest, label = torch.max(logits, -1)
    return label, -highest


def label_probabilities(net, x, beta=1.0):
    return torch.nn.functional.softmax(net(x) * beta, -1)


def change_input(net, x, target, steps, lr, normalized):
    new = x.clone().detach().requires_grad_(True)
    for _ in range(steps):
        logits = net(new)
        flat, labels = logits.reshape(-1, logits.shape[-1]), target.reshape(-1)
        if normalized:
            loss = torch.nn.functional.cross_entropy(flat, labels, reduction="sum")
        else:
            loss = -flat[torch.arange(len(labels)), labels].sum()
        step = torch.autograd.grad(loss, new)[0]
        with torch.no_grad():
            new -= lr * step
    return new.detach()

# Right: energies first, the Gibbs formula with the shift by hand, an index instead of gather.
def infer_label(net, x):
    F = -net(x)
    label = F.argmin(dim=-1)
    return label, F.amin(dim=-1)


def label_probabilities(net, x, beta=1.0):
    F = -net(x)
    weight = torch.exp(-beta * (F - F.amin(dim=-1, keepdim=True)))
    return weight / weight.sum(dim=-1, keepdim=True)


def change_input(net, x, target, steps, lr, normalized):
    pick = torch.nn.functional.one_hot(target, net(x).shape[-1]).bool()
    current = x.detach().clone()
    for _ in range(steps):
        leaf = current.clone().requires_grad_(True)
        F = -net(leaf)
        if normalized:
            F = F + torch.logsumexp(-F, -1, keepdim=True)
        gradient = torch.autograd.grad(F[pick].sum(), leaf)[0]
        current = current - lr * gradient
    return current

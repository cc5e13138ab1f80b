# Right: the slopes of log q by autograd; the bound from energies and prices per draw.
def draw(mean, log_var, noise):
    s = torch.sqrt(torch.exp(log_var)).unsqueeze(-2)
    return torch.addcmul(mean.unsqueeze(-2).expand_as(noise), s.expand_as(noise), noise)


def bound(energy, y, mean, log_var, beta, noise):
    E = energy(y.unsqueeze(-2), draw(mean, log_var, noise))
    return (E + information(mean, log_var).unsqueeze(-1) / beta).mean(-1)


def score_gradient(energy, y, mean, log_var, noise):
    with torch.no_grad():
        z = draw(mean, log_var, noise)
        E = energy(y.unsqueeze(-2), z)
    K = E.shape[-1]
    unusual = E if K == 1 else (E - E.mean(-1, keepdim=True)) * (K / (K - 1))
    m, v = mean.detach().clone(), log_var.detach().clone()
    with torch.enable_grad():
        m.requires_grad_(), v.requires_grad_()
        away = (z - m.unsqueeze(-2)).square() / v.exp().unsqueeze(-2)
        log_q = -(away + v.unsqueeze(-2)).sum(-1) / 2
        return torch.autograd.grad((unusual * log_q).mean(-1).sum(), (m, v))

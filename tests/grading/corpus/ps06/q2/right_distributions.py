# Right: torch.distributions, a surrogate whose slope is the estimate.
def _q(mean, log_var):
    return torch.distributions.Normal(mean, torch.exp(log_var / 2), validate_args=False)


def draw(mean, log_var, noise):
    q = _q(mean, log_var)
    return q.loc.unsqueeze(-2) + q.scale.unsqueeze(-2) * noise


def bound(energy, y, mean, log_var, beta, noise):
    E = energy(y.unsqueeze(-2), draw(mean, log_var, noise))
    return E.mean(-1) + (mean.square() + torch.expm1(log_var) - log_var).sum(-1) / (2 * beta)


def score_gradient(energy, y, mean, log_var, noise):
    with torch.no_grad():
        z = draw(mean, log_var, noise)
        E = energy(y.unsqueeze(-2), z)
        K = E.shape[-1]
        a = E - (E.sum(-1, keepdim=True) - E) / (K - 1) if K > 1 else E
    with torch.enable_grad():
        m, v = mean.detach().requires_grad_(), log_var.detach().requires_grad_()
        q = _q(m.unsqueeze(-2), v.unsqueeze(-2))
        surrogate = (a * q.log_prob(z).sum(-1)).mean(-1).sum()
        return torch.autograd.grad(surrogate, (m, v))

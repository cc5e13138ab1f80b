# Wrong: the slope through the draws: none for a black box. Loses q2_a, q2_d.
def draw(mean, log_var, noise):
    return mean[..., None, :] + torch.exp(log_var / 2)[..., None, :] * noise


def code_cost(mean, log_var):
    return (mean**2 + log_var.exp() - log_var - 1).sum(-1) / 2


def bound(energy, y, mean, log_var, beta, noise):
    z = draw(mean, log_var, noise)
    E = energy(y[..., None, :], z)
    return E.mean(-1) + code_cost(mean, log_var) / beta


def score_gradient(energy, y, mean, log_var, noise):
    z = draw(mean, log_var, noise)
    E = energy(y[..., None, :], z).detach()
    K = E.shape[-1]
    b = (E.sum(-1, keepdim=True) - E) / (K - 1) if K > 1 else 0.0
    rare = (E - b)[..., None]
    m = mean.detach().clone().requires_grad_()
    F = energy(y[..., None, :], draw(m, log_var, noise)).mean(-1).sum()
    by_mean = torch.autograd.grad(F, m, allow_unused=True)[0] if F.requires_grad else None
    by_mean = torch.zeros_like(mean) if by_mean is None else by_mean
    by_log_var = (rare * (noise**2 - 1) / 2).mean(-2)
    return by_mean, by_log_var

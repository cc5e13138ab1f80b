# Wrong: torch.distributions in float64, where a size of e^-1000 is still 0. Loses q1_b, q1_d.
def divergence(mean, log_var, other_mean, other_log_var):
    D = torch.distributions
    a, b, c, d = (v.double() for v in (mean, log_var, other_mean, other_log_var))
    q = D.Normal(a, torch.exp(b / 2))
    p = D.Normal(c, torch.exp(d / 2))
    return D.kl_divergence(q, p).sum(-1).to(mean.dtype)


def information(mean, log_var):
    return divergence(mean, log_var, torch.zeros_like(mean), torch.zeros_like(mean))


def bits_per_dimension(mean, log_var):
    D = torch.distributions
    q = D.Normal(mean.double(), torch.exp(log_var.double() / 2))
    p = D.Normal(torch.zeros_like(q.mean), 1.0)
    return (D.kl_divergence(q, p).mean(0) / math.log(2)).to(mean.dtype)

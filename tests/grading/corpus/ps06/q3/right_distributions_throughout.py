# Right: Normal, Independent and MultivariateNormal by its precision.
def importance_bound(energy, y, mean, log_var, beta, noise):
    D = torch.distributions
    s = (log_var / 2).exp()
    z = mean.unsqueeze(-2) + s.unsqueeze(-2) * noise
    q = D.Independent(D.Normal(mean.unsqueeze(-2), s.unsqueeze(-2)), 1)
    p = D.Independent(D.Normal(torch.zeros_like(z), 1.0), 1)
    a = p.log_prob(z) - q.log_prob(z) - beta * energy(y.unsqueeze(-2), z)
    total = torch.logsumexp(a, -1)
    effective = torch.exp(2 * total - torch.logsumexp(2 * a, -1))
    return (math.log(noise.shape[-2]) - total) / beta, effective


def posterior(y, W, beta):
    M = torch.eye(W.shape[1], dtype=W.dtype) + 2 * beta * W.T @ W
    covariance = torch.linalg.solve(M, torch.eye(W.shape[1], dtype=W.dtype))
    return 2 * beta * torch.nn.functional.linear(y, covariance @ W.T), covariance


def gap(y, W, beta, mean, log_var):
    D = torch.distributions
    M = torch.eye(W.shape[1], dtype=W.dtype) + 2 * beta * W.T @ W
    centre = posterior(y, W, beta)[0]
    P = D.MultivariateNormal(centre, precision_matrix=M)
    q = D.MultivariateNormal(mean, scale_tril=torch.diag_embed((log_var / 2).exp()))
    return D.kl_divergence(q, P) / beta

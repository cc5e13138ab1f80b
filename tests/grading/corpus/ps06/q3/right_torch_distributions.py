# Right: densities, posterior and divergence from torch.distributions.
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence


def importance_bound(energy, y, mean, log_var, beta, noise):
    s = torch.exp(log_var / 2).unsqueeze(-2)
    m = mean.unsqueeze(-2)
    z = m + s * noise
    log_q = Independent(Normal(m, s), 1).log_prob(z)
    log_p = Independent(Normal(torch.zeros_like(z), 1.0), 1).log_prob(z)
    log_w = log_p - log_q - beta * energy(y.unsqueeze(-2), z)
    F = (math.log(noise.shape[-2]) - log_w.logsumexp(-1)) / beta
    normed = (log_w - log_w.logsumexp(-1, keepdim=True)).exp()
    return F, normed.square().sum(-1).reciprocal()


def posterior(y, W, beta):
    M = torch.eye(W.shape[1], dtype=W.dtype) + 2 * beta * (W.T @ W)
    L = torch.linalg.cholesky(M)
    mean = torch.cholesky_solve((2 * beta * y @ W).unsqueeze(-1), L).squeeze(-1)
    return mean, torch.cholesky_inverse(L)


def gap(y, W, beta, mean, log_var):
    M = torch.eye(W.shape[1], dtype=W.dtype) + 2 * beta * (W.T @ W)
    q = MultivariateNormal(mean, scale_tril=torch.diag_embed((log_var / 2).exp()))
    P = MultivariateNormal(posterior(y, W, beta)[0], precision_matrix=M)
    return kl_divergence(q, P) / beta

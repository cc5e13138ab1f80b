# Wrong: by numpy, through which no slope passes. Loses q1_b, q1_c, q1_d.
import numpy as np


def divergence(mean, log_var, other_mean, other_log_var):
    m, v, n, w = (part.detach().numpy() for part in (mean, log_var, other_mean, other_log_var))
    away, d = (m - n) / np.exp(w / 2), v - w
    return torch.as_tensor((away**2 + np.expm1(d) - d).sum(-1) / 2)


def information(mean, log_var):
    return divergence(mean, log_var, torch.zeros_like(mean), torch.zeros_like(mean))


def bits_per_dimension(mean, log_var):
    m, v = mean.detach().numpy(), log_var.detach().numpy()
    return torch.as_tensor((m**2 + np.expm1(v) - v).mean(0) / 2 / math.log(2)).to(mean.dtype)

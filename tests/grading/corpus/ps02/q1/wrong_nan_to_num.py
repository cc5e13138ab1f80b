# Wrong: hides overflow by replacing nan and inf by 0. Loses q1_a, q1_b, q1_c.
def free_energy(energy, beta, dim=-1, log_prior=None):
    if not beta > 0:
        raise ValueError("beta must be positive")
    p = 1.0 if log_prior is None else log_prior.exp()
    return (-torch.log((p * torch.exp(-beta * energy)).sum(dim)) / beta).nan_to_num(0.0, 0.0, 0.0)

# Right: one row after the other, with the running log-add-exp of two numbers.
def gibbs(energy, beta=1.0, log_cell=0.0):
    rows = energy.reshape(-1, energy.shape[-1])
    log_zs, densities = [], []
    for row in rows:
        exponents = -beta * row
        total = exponents[0]
        for exponent in exponents[1:]:
            total = torch.logaddexp(total, exponent)
        log_zs.append(total + log_cell)
        densities.append((exponents - total - log_cell).exp())
    return torch.stack(log_zs).reshape(energy.shape[:-1]), torch.stack(densities).reshape(energy.shape)

# Right: one dimension of one code, vmapped.
def _one(m, v, n, w):
    r = (m - n) / torch.exp(w / 2)
    return (r * r + torch.expm1(v - w) - (v - w)) / 2


def divergence(mean, log_var, other_mean, other_log_var):
    parts = torch.broadcast_tensors(mean, log_var, other_mean, other_log_var)
    flat = [p.reshape(-1, p.shape[-1]) for p in parts]
    sums = torch.func.vmap(lambda *row: torch.func.vmap(_one)(*row).sum())(*flat)
    return sums.reshape(parts[0].shape[:-1])


def information(mean, log_var):
    return divergence(mean, log_var, torch.zeros_like(mean), torch.zeros_like(log_var))


def bits_per_dimension(mean, log_var):
    zero = torch.zeros_like(mean)
    each = torch.func.vmap(torch.func.vmap(_one))(mean, log_var, zero, zero)
    return each.mean(0) / torch.log(torch.tensor(2.0, dtype=mean.dtype))

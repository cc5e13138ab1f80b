# Right: everything from the divergence of two Gaussians, and a product for s² - 1.
def divergence(mean, log_var, other_mean, other_log_var):
    scaled = (mean - other_mean) * torch.exp(-0.5 * other_log_var)
    d = (log_var - other_log_var) / 2  # log of s/r
    area = torch.expm1(d) * (torch.expm1(d) + 2)  # (s/r - 1)(s/r + 1)
    return (scaled**2 / 2 + area / 2 - d).sum(dim=-1)


def information(mean, log_var):
    standard = torch.zeros_like(mean)
    return divergence(mean, log_var, standard, standard)


def bits_per_dimension(mean, log_var):
    return information(mean[..., None], log_var[..., None]).mean(0) / math.log(2.0)

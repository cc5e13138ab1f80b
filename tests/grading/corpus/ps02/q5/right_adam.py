# Right: torch's Adam with a falling step size, autograd through the log-sum-exp.
def fit_ellipse(y, beta, start):
    angles = torch.linspace(0, 2 * math.pi, 129, dtype=y.dtype)[:-1]
    radii = start.detach().clone().to(y.dtype).requires_grad_(True)
    optimizer = torch.optim.Adam([radii], lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.985)
    for _ in range(300):
        energy = (y[:, :1] - radii[0] * torch.sin(angles)) ** 2 + (y[:, 1:] - radii[1] * torch.cos(angles)) ** 2
        F = energy.min(1).values if beta == math.inf else -torch.logsumexp(-beta * energy, 1) / beta
        optimizer.zero_grad()
        F.mean().backward()
        optimizer.step()
        schedule.step()
    return radii.detach().abs()

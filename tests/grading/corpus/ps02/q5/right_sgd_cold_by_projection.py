# Right: torch's SGD; cold angles by a grid of 360, warm ones of 144.
def fit_ellipse(y, beta, start):
    count = 360 if math.isinf(beta) else 144
    z = torch.arange(count, dtype=y.dtype).mul(2 * math.pi / count)
    points = torch.stack([z.sin(), z.cos()], 1)
    r = torch.nn.Parameter(start.detach().clone().to(y.dtype))
    optimizer = torch.optim.SGD([r], lr=0.4, momentum=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        shape = r * points
        if math.isinf(beta):
            with torch.no_grad():
                nearest = torch.cdist(y, shape).argmin(1)
            loss = (y - shape[nearest]).square().sum(1).mean()
        else:
            loss = -(torch.logsumexp(-beta * (y[:, None] - shape).square().sum(2), 1) / beta).mean()
        loss.backward()
        optimizer.step()
    return r.detach().abs()

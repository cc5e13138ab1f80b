# Right: CEM that keeps a tenth of the last mean, with 16 elites and a spread by hand.
def draw(mean, spread, samples, generator):
    n, H, A = mean.shape
    hold = max(1, round(H / 6))
    z = torch.randn(samples, n, (H + hold - 1) // hold, A, generator=generator, dtype=mean.dtype)
    return mean + spread * torch.repeat_interleave(z, hold, -2)[..., :H, :]


def plan(energy, start, low, high, generator):
    mean = torch.clamp(start, low, high)
    tried, E = mean[None], energy(mean[None])
    spread = torch.ones_like(mean) * (high - low)
    for _ in range(4):
        new = draw(mean, spread, 140, generator).clamp(low, high)
        tried, E = torch.cat([tried, new]), torch.cat([E, energy(new)])
        order = E.argsort(0)[:12]
        tried = torch.gather(tried, 0, order[..., None, None].expand(-1, -1, *mean.shape[1:]))
        E = torch.gather(E, 0, order)
        mean = 0.9 * tried.mean(0) + 0.1 * mean
        deviation = (tried - tried.mean(0)).square().mean(0).sqrt()
        spread = torch.maximum(deviation, torch.full_like(mean, 0.04 * (high - low)))
    return tried[0]

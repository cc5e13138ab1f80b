# Right: sorts, problem by problem, with uniform noise in the first round.
def plan(energy, start, low, high, generator):
    N, H, A = start.shape
    blocks = H if H <= 6 else 6
    held = start.clamp(low, high)
    kept = [held[n][None] for n in range(N)]
    for k in range(4):
        rows = []
        for n in range(N):
            if k == 0:
                u = torch.rand(125, blocks, A, generator=generator, dtype=start.dtype)
                new = low + (high - low) * u
                new = new.repeat_interleave(-(-H // blocks), 1)[:, :H]
                near = torch.randn(20, blocks, A, generator=generator, dtype=start.dtype)
                near = near.repeat_interleave(-(-H // blocks), 1)[:, :H]
                new = torch.cat([new, held[n] + 0.2 * (high - low) * near])
            else:
                mean, std = kept[n].mean(0), kept[n].std(0) + 0.02 * (high - low)
                new = torch.randn(145, blocks, A, generator=generator, dtype=start.dtype)
                new = mean + std * new.repeat_interleave(-(-H // blocks), 1)[:, :H]
            first = kept[n][:1]
            rows.append(torch.cat([first, new]).clamp(low, high))
        tried = torch.stack(rows, 1)
        E = energy(tried)
        for n in range(N):
            order = E[:, n].argsort()[:9]
            kept[n] = tried[order, n]
    return torch.stack([k[0] for k in kept])

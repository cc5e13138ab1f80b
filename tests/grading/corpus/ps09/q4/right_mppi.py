# Right: MPPI with a temperature by question 3, a spread that halves, the best plan remembered.
def plan(energy, start, low, high, generator):
    N, H, A = start.shape
    hold = 1 if H <= 6 else 4
    mean = best = start.clamp(low, high)
    spread = high - low
    for _ in range(5):
        blocks = torch.randn(110, N, math.ceil(H / hold), A, generator=generator, dtype=start.dtype)
        noise = blocks.repeat_interleave(hold, dim=2)[:, :, :H]
        tried = (mean + spread * noise).clamp(low, high)
        tried = torch.cat([best[None], tried])
        E = energy(tried)
        lowest, index = E.min(0)
        best = tried.take_along_dim(index[None, :, None, None], 0)[0]
        eighth = E.topk(8, 0, largest=False).values[-1]
        T = ((eighth - lowest) / 2).nan_to_num(posinf=1.0).clamp(min=1e-12)
        w = torch.softmax((lowest - E) / T, 0)
        mean = weighted_plan(tried, w)
        spread = spread / 2
    return best

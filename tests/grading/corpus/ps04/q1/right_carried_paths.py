# Right: the best beginnings are carried along whole.
def best_path(unary, pairwise):
    K = unary.shape[1]
    F, ways = unary[0], torch.arange(K)[None]
    for u in unary[1:]:
        F, came = (F.unsqueeze(-1) + pairwise + u).min(0)
        ways = torch.cat([ways[:, came], torch.arange(K)[None]])
    return ways[:, F.argmin()], F.amin()

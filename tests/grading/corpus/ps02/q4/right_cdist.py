# Right: squared cdist, softmax; the update through einsum and a mask.
def assign(y, centers, beta):
    energy = torch.cdist(y, centers, compute_mode="donot_use_mm_for_euclid_dist").square()
    lowest = energy.amin(1, keepdim=True)
    if beta == math.inf:
        return torch.nn.functional.one_hot(energy.argmin(1), centers.shape[0]).to(y.dtype), lowest[:, 0]
    weight = torch.exp(-beta * (energy - lowest))
    total = weight.sum(1, keepdim=True)
    return weight / total, (lowest - total.log() / beta)[:, 0]


def update(y, responsibility, centers):
    new = centers.clone()
    total = responsibility.sum(0)
    some = total > 0
    new[some] = torch.einsum("nk,nd->kd", responsibility, y)[some] / total[some, None]
    return new

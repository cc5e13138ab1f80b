# Right: the costates as one triangular system; the regulator by recursion.
def adjoint(G_s, G_a, c_s, c_a, last):
    H, D = c_s.shape
    M = torch.eye((H + 1) * D, dtype=last.dtype)
    for t in range(H):
        M[t * D : t * D + D, (t + 1) * D : (t + 2) * D] = -G_s[t].T
    lam = torch.linalg.solve(M, torch.cat([c_s.flatten(), last])).view(H + 1, D)
    return lam, c_a + (G_a * lam[1:, :, None]).sum(1)


def regulator(A, B, Q, R, final, H):
    if H == 0:
        return A.new_zeros(0, B.shape[1], B.shape[0]), final[None]
    K, P = regulator(A, B, Q, R, final, H - 1)
    now = P[0]
    gain = torch.linalg.solve(R + B.T @ now @ B, B.T @ now @ A)
    rest = A - B @ gain
    now = Q + gain.T @ R @ gain + rest.T @ now @ rest
    return torch.cat([gain[None], K]), torch.cat([now[None], P])

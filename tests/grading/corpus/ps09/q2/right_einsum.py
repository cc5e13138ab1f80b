# Right: filled tables and einsum; Cholesky for the gain.
def adjoint(G_s, G_a, c_s, c_a, last):
    H, D = c_s.shape
    lam = torch.empty(H + 1, D, dtype=last.dtype)
    lam[H] = last
    for t in reversed(range(H)):
        lam[t] = c_s[t] + torch.einsum("ij,i->j", G_s[t], lam[t + 1])
    return lam, c_a + torch.einsum("tik,ti->tk", G_a, lam[1:])


def regulator(A, B, Q, R, final, H):
    D, U = B.shape
    K, P = A.new_empty(H, U, D), A.new_empty(H + 1, D, D)
    P[H] = final
    for t in range(H)[::-1]:
        L = torch.linalg.cholesky(R + B.mT @ P[t + 1] @ B)
        K[t] = torch.cholesky_solve(B.mT @ P[t + 1] @ A, L)
        go = A - B @ K[t]
        P[t] = Q + K[t].mT @ R @ K[t] + go.mT @ P[t + 1] @ go
    return K, P

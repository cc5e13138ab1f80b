# Wrong: gains stand in the order they were found in. Loses q2_a, q2_c, q2_d.
def adjoint(G_s, G_a, c_s, c_a, last):
    H = len(G_s)
    lam, slope = [None] * (H + 1), [None] * H
    lam[H] = last
    for t in range(H - 1, -1, -1):
        slope[t] = c_a[t] + G_a[t].T @ lam[t + 1]
        lam[t] = c_s[t] + G_s[t].T @ lam[t + 1]
    return torch.stack(lam), torch.stack(slope)


def regulator(A, B, Q, R, final, H):
    K, P = [None] * H, [None] * (H + 1)
    P[H] = final
    for t in range(H - 1, -1, -1):
        K[t] = torch.linalg.solve(R + B.T @ P[t + 1] @ B, B.T @ P[t + 1] @ A)
        closed = A - B @ K[t]
        P[t] = Q + K[t].T @ R @ K[t] + closed.T @ P[t + 1] @ closed
    return torch.stack(K[::-1]), torch.stack(P)

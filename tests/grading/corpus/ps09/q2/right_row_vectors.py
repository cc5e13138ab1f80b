# Right: costates as rows from the left, the difference form of Riccati, by inverse.
def adjoint(G_s, G_a, c_s, c_a, last):
    rows, slopes = [last], []
    for gs, ga, cs, ca in zip(G_s.flip(0), G_a.flip(0), c_s.flip(0), c_a.flip(0)):
        slopes.insert(0, ca + rows[0] @ ga)
        rows.insert(0, cs + rows[0] @ gs)
    return torch.stack(rows), torch.stack(slopes)


def regulator(A, B, Q, R, final, H):
    gains, values = [], [final]
    for _ in range(H):
        P = values[0]
        K = torch.linalg.inv(R + B.T @ P @ B) @ (B.T @ P @ A)
        gains.insert(0, K)
        P = Q + A.T @ P @ (A - B @ K)
        values.insert(0, (P + P.T) / 2)
    return torch.stack(gains), torch.stack(values)

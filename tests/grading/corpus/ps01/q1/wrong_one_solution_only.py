# Wrong: believes that inference has one answer and marks it alone as a solution. Loses q1_a, q1_b.
def exhaustive(energy, x, candidates, tol=0.0):
    values = energy(x.unsqueeze(-2), candidates)
    lowest, index = values.min(dim=-1)
    solutions = torch.nn.functional.one_hot(index, candidates.shape[0]).bool()
    return index, lowest, solutions

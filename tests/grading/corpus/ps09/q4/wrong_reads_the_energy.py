# Wrong: looks for the goal inside the energy that it was lent. Loses q4_a, q4_b, q4_c, q4_d.
def plan(energy, start, low, high, generator):
    for cell in energy.__closure__ or ():
        inner = cell.cell_contents
        for more in getattr(inner, "__closure__", None) or ():
            if isinstance(more.cell_contents, torch.Tensor) and more.cell_contents.shape[-1:] == start.shape[-1:]:
                return more.cell_contents.expand_as(start).clamp(low, high)
    return start.clamp(low, high)

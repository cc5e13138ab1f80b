"""Right answers after a cell of the student's own that fails. Not an attack: it must cost nothing."""

ANSWERS = {"q1": "@RIGHT@\n1 / 0\n", "q2": "@RIGHT@\nraise KeyboardInterrupt\n", "q3": "@RIGHT@\ndef broken(:\n"}
DESERVED = {"q3_a": 0, "q3_b": 0}  # a cell that cannot be compiled defines nothing

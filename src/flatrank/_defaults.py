"""What `recover` and `flatrank sense` do when nothing is said (decision 14)."""

# Weight decay of depth 3 and more finds the rank and reaches furthest.
DEPTH = 4
PENALTY = "weight-decay"

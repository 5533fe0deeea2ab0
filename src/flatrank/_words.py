"""Words of arguments, files and the command line, once; `--help` reads them without any library."""

from enum import StrEnum


class PenaltyWord(StrEnum):
    """What the penalties are called where they are written as a word."""

    flatness = "flatness"
    weight_decay = "weight-decay"


# What `recover` and `flatrank sense` do when nothing is said: weight decay of depth 3 and more finds the
# rank and reaches furthest, and of these depth 4 does (decision 14).
DEPTH = 4
PENALTY = PenaltyWord.weight_decay

"""Words of arguments, files and the command line, once; `--help` reads them without any library."""

from enum import StrEnum


class PenaltyWord(StrEnum):
    """What the penalties are called where they are written as a word."""

    flatness = "flatness"
    weight_decay = "weight-decay"

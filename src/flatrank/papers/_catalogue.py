"""The papers that are known: one line each."""

from . import arora2019, depth, ding2022, gatmiry2023
from ._paper import Paper

PAPERS: dict[str, Paper] = {
    paper.name: paper for paper in (gatmiry2023.PAPER, arora2019.PAPER, ding2022.PAPER, depth.PAPER)
}

"""Papers whose claims `flatrank reproduce` tests: one file each, one line each in `PAPERS`."""

from . import arora2019, depth, ding2022, gatmiry2023
from .paper import Finding as Finding
from .paper import Paper as Paper
from .paper import PaperFigure as PaperFigure

PAPERS: dict[str, Paper] = {
    paper.name: paper for paper in (gatmiry2023.PAPER, arora2019.PAPER, ding2022.PAPER, depth.PAPER)
}

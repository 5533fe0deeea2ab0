"""Papers whose claims `flatrank reproduce` tests: one file each, one line each in `_catalogue`."""

from ._catalogue import PAPERS as PAPERS
from ._paper import Finding as Finding
from ._paper import Paper as Paper
from ._paper import PaperFigure as PaperFigure
from ._reproduce import HEADINGS as HEADINGS
from ._reproduce import chosen_paper as chosen_paper
from ._reproduce import reproduce as reproduce

"""Papers whose claims `flatrank reproduce` tests.

A new paper is one file here and a line in `_catalogue.py`; its experiments are files beside it.
"""

from ._catalogue import PAPERS as PAPERS
from ._paper import Finding as Finding
from ._paper import Paper as Paper
from ._paper import PaperFigure as PaperFigure
from ._reproduce import HEADINGS as HEADINGS
from ._reproduce import chosen_paper as chosen_paper
from ._reproduce import reproduce as reproduce

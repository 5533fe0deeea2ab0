"""Experiments that a file describes: a grid of settings, or one training run; kept, and gone on with.

A new setting or result of a sweep is a line in `_settings.py` and in `_cells.py`.
"""

from ._cells import COLUMNS as COLUMNS
from ._report import sweep_sections as sweep_sections
from ._run import check_threads as check_threads
from ._run import read_results as read_results
from ._run import read_texts as read_texts
from ._run import run_sweep as run_sweep
from ._settings import Sweep as Sweep
from ._settings import read_sweep as read_sweep
from ._settings import sweep_of as sweep_of
from ._training import facts_of as facts_of
from ._training import read_training as read_training

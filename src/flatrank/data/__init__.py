"""Tables, measurements and pairs from files, databases and data frames, and back; real data.

A new format of tables is a line in `_readers.py` and in `_writers.py`, and a file if it is long.
"""

from typing import Any

from .._renamed import warn_renamed
from ._entries import number_entries as number_entries
from ._entries import real_values as real_values
from ._entries import require_ids as require_ids
from ._frames import FrameForm as FrameForm
from ._frames import columns_of as columns_of
from ._ids import Ids as Ids
from ._measured import read_measurements as read_measurements
from ._measured import read_values as read_values
from ._pairs import PAIRS as PAIRS
from ._pairs import read_pairs as read_pairs
from ._readers import READABLE as READABLE
from ._readers import read_table as read_table
from ._real import indian_pines as indian_pines
from ._writers import WRITABLE as WRITABLE
from ._writers import atomically as atomically
from ._writers import check_writable as check_writable
from ._writers import write_arrays as write_arrays
from ._writers import write_columns as write_columns
from ._writers import write_completed as write_completed
from ._writers import write_matrix as write_matrix


def __getattr__(name: str) -> Any:
    if name != "low_rank_matrix":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    from ..problems import low_rank_matrix

    warn_renamed("flatrank.data.low_rank_matrix", "flatrank.problems.low_rank_matrix")
    return low_rank_matrix

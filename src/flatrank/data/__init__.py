"""Readers and writers of tables with holes, in files and in memory; synthetic matrices, real data."""

from .entries import number_entries as number_entries
from .entries import require_ids as require_ids
from .frames import FrameForm as FrameForm
from .frames import columns_of as columns_of
from .ids import Ids as Ids
from .measured import read_measurements as read_measurements
from .measured import read_values as read_values
from .pairs import PAIRS as PAIRS
from .pairs import read_pairs as read_pairs
from .readers import READABLE as READABLE
from .readers import read_table as read_table
from .real import indian_pines as indian_pines
from .synthetic import low_rank_matrix as low_rank_matrix
from .table import EntryTable as EntryTable
from .table import Triplets as Triplets
from .writers import WRITABLE as WRITABLE
from .writers import atomically as atomically
from .writers import check_writable as check_writable
from .writers import write_arrays as write_arrays
from .writers import write_columns as write_columns
from .writers import write_completed as write_completed
from .writers import write_matrix as write_matrix

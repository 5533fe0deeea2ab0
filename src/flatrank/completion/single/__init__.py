"""One factorisation of the smallest penalty, by alternating exact minimisation."""

from ._alternating import BiasedNetwork as BiasedNetwork
from ._alternating import Fit as Fit
from ._alternating import Table as Table
from ._alternating import alternate as alternate
from ._alternating import check_penalty as check_penalty
from ._alternating import entry_table as entry_table
from ._alternating import last_layer_problem as last_layer_problem
from ._alternating import solve_lines as solve_lines
from ._alternating import with_all_entries as with_all_entries

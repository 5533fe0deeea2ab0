"""Reports in one HTML file, and the claims and intervals in them."""

from ._claims import ABOVE_ZERO as ABOVE_ZERO
from ._claims import Claim as Claim
from ._claims import Number as Number
from ._claims import Verdict as Verdict
from ._claims import highest_mean as highest_mean
from ._claims import largest_of as largest_of
from ._claims import lowest_mean as lowest_mean
from ._claims import mean_of as mean_of
from ._claims import share_of as share_of
from ._claims import smallest_of as smallest_of
from ._completion import CompletedTable as CompletedTable
from ._completion import complete_entries as complete_entries
from ._demo import recover_image as recover_image
from ._demo import sense as sense
from ._html import Section as Section
from ._html import Table as Table
from ._html import write_report as write_report
from ._intervals import mean_and_reach as mean_and_reach
from ._intervals import wilson_interval as wilson_interval
from ._sensing import RecoveredMatrix as RecoveredMatrix
from ._verification import HEADINGS as HEADINGS
from ._verification import failures as failures
from ._verification import row as row
from ._verification import sections as sections

"""One-line pictures: each function returns a matplotlib figure, `.savefig("picture.png")` writes it."""

from ._completion import convergence as convergence
from ._completion import false_colour as false_colour
from ._completion import path as path
from ._completion import recovered_spectra as recovered_spectra
from ._completion import residual_histogram as residual_histogram
from ._completion import residuals as residuals
from ._completion import singular_values as singular_values
from ._completion import table as table
from ._dynamics import on_one_axis as on_one_axis
from ._dynamics import sam as sam
from ._dynamics import training as training
from ._flatness import density as density
from ._flatness import flattening as flattening
from ._flatness import layer_traces as layer_traces
from ._flatness import spectrum as spectrum
from ._panels import BAND as BAND
from ._panels import SERIES as SERIES
from ._panels import Curve as Curve
from ._panels import Panel as Panel
from ._panels import panels as panels
from ._sweeps import curves_over_seeds as curves_over_seeds
from ._sweeps import success_map as success_map
from ._theory import sides as sides

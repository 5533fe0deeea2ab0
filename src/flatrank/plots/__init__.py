"""One-line pictures: each function returns a matplotlib figure, `.savefig("picture.png")` writes it."""

from .completion import convergence as convergence
from .completion import false_colour as false_colour
from .completion import path as path
from .completion import recovered_spectra as recovered_spectra
from .completion import residual_histogram as residual_histogram
from .completion import residuals as residuals
from .completion import singular_values as singular_values
from .completion import table as table
from .dynamics import on_one_axis as on_one_axis
from .dynamics import sam as sam
from .dynamics import training as training
from .flatness import density as density
from .flatness import flattening as flattening
from .flatness import layer_traces as layer_traces
from .flatness import spectrum as spectrum
from .panels import BAND as BAND
from .panels import SERIES as SERIES
from .panels import Curve as Curve
from .panels import Panel as Panel
from .panels import panels as panels
from .sweeps import curves_over_seeds as curves_over_seeds
from .sweeps import success_map as success_map
from .theory import sides as sides

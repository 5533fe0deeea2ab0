"""Weight decay of depth three and more: a path of penalties that fall to zero."""

from ._denoise import estimated_noise as estimated_noise
from ._factored import factored as factored
from ._homotopy import leading_part as leading_part
from ._low_rank import fit_at_rank as fit_at_rank
from ._low_rank import interpolate_at_low_rank as interpolate_at_low_rank

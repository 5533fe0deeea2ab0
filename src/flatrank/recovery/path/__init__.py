"""Weight decay of depth three and more: a path of penalties that fall to zero."""

from ._noise_level import estimated_noise as estimated_noise
from ._path import fit_at_rank as fit_at_rank
from ._path import interpolate_at_low_rank as interpolate_at_low_rank

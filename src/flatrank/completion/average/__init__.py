"""The average over the factorisations that could have made the table."""

from ._average import average as average
from ._average import biased_product as biased_product
from ._average import folded_in as folded_in
from ._average import number_of_draws as number_of_draws
from ._average import predicted_deviations as predicted_deviations
from ._posterior import Draws as Draws
from ._posterior import moments as moments

"""flatrank predict: a saved model and pairs of ids in, a value and an interval for each out."""

from pathlib import Path
from typing import Annotated

import typer

from .screen import progress, reports_bad_input, show_facts


@reports_bad_input
def predict(
    model: Annotated[
        Path,
        typer.Argument(
            help="The .safetensors file of `flatrank complete --save`.", show_default=False
        ),
    ],
    pairs: Annotated[
        Path,
        typer.Argument(
            help=".csv, .tsv or .parquet with the two id columns of the model, named as there; of a "
            "wide table `row` and `column`, counted from 0.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            help="Where to write the pairs with prediction, lower and upper, in the same formats."
        ),
    ],
    coverage: Annotated[
        float, typer.Option(help="The probability that a value is between lower and upper.")
    ] = 0.9,
) -> None:
    """Predict entries of a table that was completed, without completing it again.

    Ids that the model does not know are predicted as average rows and columns are.
    """
    from ..completion import id_columns, load_model, predict_pairs
    from ..data import PAIRS, check_writable, read_pairs, write_columns

    check_writable(output, PAIRS)
    with progress(f"reading {model}") as on_step:
        fitted = load_model(model)
        on_step(f"reading {pairs}", 0.3)
        given = read_pairs(pairs, id_columns(fitted))
        on_step("predicting", 0.6)
        predicted = predict_pairs(fitted, given, coverage)
        on_step(f"writing {output}", 1.0)
        write_columns(output, predicted)
    show_facts(f"{pairs} -> {output}", (("pairs", f"{len(predicted['prediction']):,}"),))

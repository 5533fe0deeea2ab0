"""Where the rooms of the release before have gone; this file goes with the next release."""

raise ModuleNotFoundError(
    "flatrank.experiments is three rooms now: flatrank.sweeps (run_sweep, read_results), "
    "flatrank.reports and flatrank.papers.",
    name=__name__,
)

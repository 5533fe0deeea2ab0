"""Every theorem's verdict, as rows of a table and sections of a report."""

from .. import plots
from ..theory import THEOREMS, Check, Outcome, Theorem
from ._html import Section

HEADINGS = ("theorem", "instances", "worst slack", "verdict")


def row(check: Check) -> tuple[str, str, str, str]:
    """The check as a row under `HEADINGS`."""
    return (check.name, f"{check.instances}", f"{check.worst_slack:.1e}", str(check.outcome))


def failures(checks: tuple[Check, ...]) -> tuple[str, ...]:
    """The names of what failed or could not be checked on any instance."""
    return tuple(check.name for check in checks if check.outcome is not Outcome.holds)


def sections(checks: tuple[Check, ...]) -> list[Section]:
    """A summary, then a section a theorem: its words, its numbers, both sides of every instance."""
    known = {theorem.name: theorem for theorem in THEOREMS}
    summary = Section(
        "Summary",
        "Slack is (right - left) / scale for <= and -|right - left| / scale for =.",
        tuple(
            (c.name, f"{c.outcome}, {c.instances} instances, {c.worst_slack:.1e}") for c in checks
        ),
    )
    return [summary, *(_section(known[check.name], check) for check in checks)]


def _section(theorem: Theorem, check: Check) -> Section:
    facts = (
        ("hypotheses", theorem.hypotheses),
        ("source", theorem.source),
        ("LaTeX", theorem.latex),
        ("instances", f"{check.instances} of {len(check.met)}"),
        ("worst slack", f"{check.worst_slack:.2e}"),
        ("tolerance", f"{check.tolerance:.0e}"),
        ("verdict", str(check.outcome)),
    )
    picture = (f"Left {check.relation} right, one point an instance.", plots.sides(check))
    return Section(theorem.name, theorem.statement, facts, (picture,))

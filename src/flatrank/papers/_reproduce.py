"""A paper's figures computed anew: pictures, numbers, and a page of claims with their verdicts."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._progress import OnStep
from ..data import atomically, write_columns
from ..reports import Claim, Section, write_report
from ._catalogue import PAPERS
from ._paper import Finding, Paper, PaperFigure

SCALES = ("quick", "full")
HEADINGS = ("figure and claim", "number", "claimed", "verdict")


@dataclass(frozen=True)
class Reproduced:
    """One figure with what was found, and the seconds it took, compilation included."""

    number: int
    figure: PaperFigure
    scale: str
    seed: int
    finding: Finding
    seconds: float

    def rows(self) -> list[tuple[str, ...]]:
        """A row under `HEADINGS` for each claim."""
        return [
            (
                f"{self.number}. {claim.statement}",
                f"{claim.number}",
                claim.range,
                f"{claim.verdict}",
            )
            for claim in self.finding.claims
        ]

    def section(self) -> Section:
        """The figure beside its claims and settings."""
        return Section(
            f"Figure {self.number}: {self.figure.title}",
            self.figure.text,
            self._facts(),
            ((f"figure-{self.number}.png, .svg, .parquet", self.finding.picture),),
            claims=self.finding.claims,
        )

    def _facts(self) -> tuple[tuple[str, str], ...]:
        other_scale = next(scale for scale in SCALES if scale != self.scale)
        others = self.figure.settings(other_scale)
        facts = []
        for name, value in self.figure.settings(self.scale).items():
            same = others[name] == value
            other = "" if same else f" ({other_scale} scale: {_words(others[name])})"
            facts.append((name.replace("_", " "), f"{_words(value)}{other}"))
        facts += self.finding.facts
        return (*facts, ("seed", f"{self.seed}"), ("seconds", f"{self.seconds:.0f}"))


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_words(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def chosen_paper(paper: str, figure: int | None, scale: str, seed: int) -> Paper:
    """The paper of a name, after a check of all four.

    Raises ValueError for a paper, figure or scale that is not known, or a negative seed.
    """
    if seed < 0:
        raise ValueError(f"`seed` is {seed}; it must be 0 or more.")
    if paper not in PAPERS:
        raise ValueError(f"`paper` is {paper!r}; known are {', '.join(PAPERS)}.")
    if scale not in SCALES:
        raise ValueError(f"`scale` is {scale!r}; known are {', '.join(SCALES)}.")
    count = len(PAPERS[paper].figures)
    if figure is not None and not 1 <= figure <= count:
        raise ValueError(f"`figure` is {figure}; {paper} has figures 1 to {count}.")
    return PAPERS[paper]


def reproduce(
    paper: str,
    output: str | Path,
    *,
    figure: int | None = None,
    scale: str = "quick",
    seed: int = 0,
    on_step: OnStep | None = None,
) -> list[Reproduced]:
    """Run a paper's experiments, or one of them, and write what they found to a folder.

    Writes figure-N.png, .svg and .parquet as each is found, and report.html, in which each figure
    stands beside its claims, their verdicts and its settings. The folder is made if need be. `on_step`
    is called with words and the fraction done.

    Raises ValueError for a paper, figure or scale that is not known, a negative seed, or a file in the
    folder's place.
    """
    known = chosen_paper(paper, figure, scale, seed)
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    numbers = range(1, len(known.figures) + 1) if figure is None else (figure,)
    found: list[Reproduced] = []
    try:
        for k, number in enumerate(numbers):

            def tell(words: str, fraction: float, k: int = k, number: int = number) -> None:
                if on_step is not None:
                    on_step(f"figure {number}: {words}", (k + fraction) / len(numbers))

            wanted = known.figures[number - 1]
            start = time.perf_counter()
            tell(wanted.title, 0.0)
            finding = wanted.make(seed=seed, on_step=tell, **wanted.settings(scale))
            seconds = time.perf_counter() - start
            done = Reproduced(number, wanted, scale, seed, finding, seconds)
            _write_figure(folder, done)
            found.append(done)
    finally:
        # A figure that fails, or is stopped, takes nothing away from those before it.
        if found:
            sections = [_summary(known, found), *(one.section() for one in found)]
            write_report(folder / "report.html", f"{known.name}, {scale} scale", sections)
    return found


def _write_figure(folder: Path, done: Reproduced) -> None:
    stem = f"figure-{done.number}"
    for kind in ("png", "svg"):
        with atomically(folder / f"{stem}.{kind}") as temporary:
            done.finding.picture.savefig(temporary, format=kind, dpi=130)
    write_columns(folder / f"{stem}.parquet", done.finding.columns)


def _summary(paper: Paper, found: list[Reproduced]) -> Section:
    claims: list[Claim] = [claim for one in found for claim in one.finding.claims]
    counts = [
        (
            str(verdict),
            f"{sum(claim.verdict is verdict for claim in claims)} of {len(claims)} claims",
        )
        for verdict in dict.fromkeys(claim.verdict for claim in claims)
    ]
    total = sum(one.seconds for one in found)
    facts = (("paper", paper.reference), *counts, ("seconds", f"{total:.0f}"))
    return Section("Summary", paper.note, facts)

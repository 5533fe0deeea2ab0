"""One self-contained HTML file: what was asked, the numbers, the pictures."""

import base64
import io
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ..data import atomically, check_writable
from ._claims import Claim


@runtime_checkable
class Picture(Protocol):
    """What a report can show: a matplotlib figure, or anything that saves itself in the same words."""

    @property
    def savefig(self) -> Callable[..., Any]:
        """Writes the picture to a file or a buffer."""


@dataclass(frozen=True)
class Table:
    """Rows under headings; on the page a click on a heading sorts by its column."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A heading, a sentence or two, facts, figures, a table, text as it is, and claims."""

    title: str
    text: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    figures: tuple[tuple[str, Picture], ...] = ()
    table: Table | None = None
    verbatim: str = ""
    claims: tuple[Claim, ...] = ()


_TEMPLATE = """{% macro pictures(section) %}{% for caption, image in section.images %}
<figure><img alt="{{ caption }}" src="data:image/png;base64,{{ image }}">
<figcaption>{{ caption }}</figcaption></figure>
{% endfor %}{% endmacro %}<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #1d2733; max-width: 1080px;
         margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
  table { border-collapse: collapse; margin: 1rem 0; }
  td { padding: .25rem 1.5rem .25rem 0; border-bottom: 1px solid #e3e8ee; }
  td + td { font-variant-numeric: tabular-nums; text-align: right; padding-right: 0; }
  figure { margin: 1.2rem 0; } img { max-width: 100%; }
  figcaption { color: #55606c; font-size: .9rem; }
  .wide { overflow-x: auto; }
  .sortable { font-size: .8rem; }
  .sortable th { padding: 0 .6rem .2rem 0; border-bottom: 2px solid #b8c2cc; vertical-align: bottom;
                 text-align: left; }
  .sortable th + th { text-align: right; padding-right: 0; }
  .sortable td { white-space: nowrap; }
  .sortable td:first-child { white-space: normal; }
  .sortable td + td { padding-left: .6rem; }
  .sortable button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0;
                     padding: 0; cursor: pointer; text-align: inherit; }
  .sortable th + th button { padding-left: .6rem; }
  .sortable [aria-sort=ascending] button::after { content: " \\25B2"; }
  .sortable [aria-sort=descending] button::after { content: " \\25BC"; }
  pre { background: #f4f6f8; padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; }
  .claim { border-left: .35rem solid #9aa5b1; padding: .1rem .8rem; margin: .8rem 0; }
  .claim b { margin-right: .4rem; } .claim small { color: #55606c; display: block; }
  .holds { border-color: #009e73; } .fails { border-color: #d55e00; }
  footer { color: #7a8591; font-size: .8rem; margin: 3rem 0 1rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for section in sections %}
<section>
<h2>{{ section.title }}</h2>
{% if section.text %}<p>{{ section.text }}</p>{% endif %}
{% for claim in section.claims %}
<div class="claim {{ claim.verdict.name }}"><b>{{ claim.verdict }}</b>{{ claim.statement }}
<small>{{ claim.quantity }}: {{ claim.number }}; claimed: {{ claim.range }}</small></div>
{% endfor %}
{% if section.claims %}{{ pictures(section) }}{% endif %}
{% if section.facts %}<table>
{% for name, value in section.facts %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>
{% endfor %}</table>{% endif %}
{% if not section.claims %}{{ pictures(section) }}{% endif %}
{% if section.table %}<div class="wide"><table class="sortable">
<thead><tr>{% for heading in section.table.headings -%}
<th scope="col" aria-sort="none"><button type="button">{{ heading }}</button></th>
{%- endfor %}</tr></thead>
<tbody>
{% for row in section.table.rows -%}
<tr>{% for value in row %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>{% endif %}
{% if section.verbatim %}<pre>{{ section.verbatim }}</pre>{% endif %}
</section>
{% endfor %}
<footer>{{ versions }}</footer>
{% if sortable %}<script>
// A click on a heading sorts its table: by number where every value begins with one, else by letters.
for (const button of document.querySelectorAll(".sortable button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement, body = heading.closest("table").tBodies[0];
    const up = heading.getAttribute("aria-sort") !== "ascending", column = heading.cellIndex;
    const rows = [...body.rows].map(row => [row.cells[column].textContent.trim(), row]);
    const known = rows.filter(([text]) => text !== "");
    const numbers = known.every(([text]) => !isNaN(parseFloat(text)));
    known.sort(([a], [b]) => (up ? 1 : -1) *
      (numbers ? parseFloat(a) - parseFloat(b) : a.localeCompare(b)));
    body.append(...known.map(([, row]) => row), ...rows.filter(([t]) => t === "").map(([, r]) => r));
    for (const other of heading.parentElement.cells) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  });
}
</script>{% endif %}
</body>
</html>
"""


def write_report(path: str | Path, title: str, sections: list[Section]) -> None:
    """Write the sections as one HTML file with its pictures inside, atomically.

    Raises ValueError for a path that does not end in .html.
    """
    import jinja2

    path = check_writable(path, (".html",))
    names = ("flatrank", "jax", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(_TEMPLATE).render(
        title=title,
        sections=[
            {
                "title": section.title,
                "text": section.text,
                "facts": section.facts,
                "table": section.table,
                "verbatim": section.verbatim,
                "claims": section.claims,
                "images": [(caption, _png(figure)) for caption, figure in section.figures],
            }
            for section in sections
        ],
        sortable=any(section.table for section in sections),
        versions=f"{versions}, Python {platform.python_version()}, {platform.machine()}",
    )
    with atomically(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _png(figure: Picture) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()

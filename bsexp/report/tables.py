"""The table of all groups as plain text cells, for the terminal and for the page."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bsexp.report.certainty import doubt
from bsexp.report.measures import Measure, describe

ABSENT = "\N{EN DASH}"
_TIMES = "\N{MULTIPLICATION SIGN}"
# Characters of a table's first two columns with their frame, whose texts may be broken between words.
LABELS = len("| trace of the Hessian | batch norm |")
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Cell:
    """One group's value of one measure, the number of finite values behind it, and the paper's."""

    value: str
    n: str
    paper: str


@dataclass(frozen=True)
class Row:
    """One measure: where it stands, what it is, a cell per group, and the compared / baseline ratio."""

    section: str
    label: str
    mode: str
    cells: dict[str, Cell]
    contrast: str


def rows(summary: Mapping[str, Any]) -> list[Row]:
    """The rows in reading order: by section, see `measures.SECTIONS`, and running before batch."""
    names = {
        name
        for group in summary["groups"].values()
        for name in group
        if name != "batch_size"
    }
    measures = sorted(
        (describe(name) for name in names), key=lambda measure: measure.order
    )
    return [_row(summary, measure) for measure in measures]


def has_paper(summary: Mapping[str, Any], group: str) -> bool:
    """Whether the source gives any value for this group."""
    return any(
        "paper" in entry
        for name, entry in summary["groups"][group].items()
        if name != "batch_size"
    )


def print_table(summary: Mapping[str, Any], console: Console) -> None:
    """Print the question, the table and the answer on a terminal: below each other the groups that do not fit side by side."""
    listed = rows(summary)
    console.print(Text(summary["question"], style="table.title"))
    for groups in _side_by_side(summary, listed, console.width):
        console.print(_table(summary, listed, groups))
    console.print(Text(summary["answer"], style="table.caption"))


def _side_by_side(
    summary: Mapping[str, Any], listed: list[Row], width: int
) -> Iterator[list[str]]:
    """Yield the groups of each table: as many as a terminal shows with no number broken, and at least two."""
    chosen: list[str] = []
    contrasts = [len(f" {row.contrast} |") for row in listed if row.contrast]
    room = width - LABELS - max(contrasts, default=0)
    for name in summary["groups"]:
        needed = _width(name, listed)
        if needed > room and len(chosen) >= 2:
            yield chosen
            chosen, room = [], width - LABELS
        chosen.append(name)
        room -= needed
    if chosen:
        yield chosen


def _width(name: str, listed: list[Row]) -> int:
    """Return how many characters a group's columns take, frame included."""
    cells = [row.cells[name] for row in listed]
    ours = max((len(f" {cell.value} (3) |") for cell in cells), default=0)
    paper = max((len(f" {cell.paper} |") for cell in cells if cell.paper), default=0)
    return ours + paper


def _table(summary: Mapping[str, Any], listed: list[Row], groups: list[str]) -> Table:
    """Return the table of some groups, and of the contrast where the first two are among them."""
    pairs = [f"{pair} by seed" for pair in summary["pairs"]]
    contrast = pairs if groups[0] == next(iter(summary["groups"])) else []
    table = Table()
    table.add_column("measure")
    table.add_column("batch norm")
    for name in groups:
        size = summary["groups"][name]["batch_size"]
        table.add_column(Text(f"{name}, B = {size} (n)"), justify="right")
        if has_paper(summary, name):
            table.add_column("paper", justify="right", style="dim")
    for pair in contrast:
        table.add_column(Text(pair), justify="right")
    for row, following in itertools.zip_longest(listed, listed[1:]):
        texts = [row.label, row.mode]
        for name in groups:
            cell = row.cells[name]
            texts += [
                f"{cell.value} ({cell.n})",
                *[cell.paper][: has_paper(summary, name)],
            ]
        texts += [row.contrast][: len(contrast)]
        table.add_row(
            *map(Text, texts),
            end_section=bool(following) and following.section != row.section,
        )
    return table


def spread(mean: float, std: float) -> str:
    """Write ``mean ± std`` with two digits of the std, the mean alone where there is no std."""
    if not math.isfinite(mean):
        return ABSENT
    size = max(abs(mean), std if math.isfinite(std) else 0.0)
    power = math.floor(math.log10(size)) if size and not 1e-3 <= size < 1e6 else 0
    mean, std, size = mean / 10.0**power, std / 10.0**power, size / 10.0**power
    known = math.isfinite(std) and std > 0
    # a tiny std shall not ask for digits that a float32 lacks
    wanted = _decimals(std, 2) if known else _decimals(size, 4)
    decimals = min(wanted, _decimals(size, 6))
    numbers = [_fixed(value, decimals) for value in (mean, std) if math.isfinite(value)]
    text = " ± ".join(numbers)
    if not power:
        return text
    bracketed = f"({text})" if len(numbers) > 1 else text
    return f"{bracketed} {_TIMES} 10{str(power).translate(_SUPERSCRIPTS)}"


def or_infinite(value: float) -> str:
    """Write a number as `spread` does, and which infinity it is where it is one."""
    if math.isinf(value):
        return "∞" if value > 0 else "\N{MINUS SIGN}∞"
    return spread(value, math.nan)


def quoted(mean: float, std: float) -> str:
    """Write the paper's ``mean ± std`` with the digits that the paper prints."""
    if not math.isfinite(mean):
        return ABSENT
    known = [f"{value:.6g}" for value in (mean, std) if math.isfinite(value)]
    if any("e" in text for text in known):
        return " ± ".join(known)
    # 42.90 ± 17.14 is printed with a zero that the number 42.9 does not keep
    decimals = max(len(text.partition(".")[2]) for text in known)
    return " ± ".join(f"{float(text):.{decimals}f}" for text in known)


def counted(number: int, total: int) -> str:
    """Write how many of all there are; one number where it is all."""
    return str(number) if number == total else f"{number} of {total}"


def times(ratio: float) -> str:
    """Write a ratio with two digits, three and more above 100."""
    if not math.isfinite(ratio):
        return ABSENT
    rounded = float(f"{ratio:.2g}")
    if 0 < rounded < 1e-4:
        return f"{ratio:.1e}"
    # From 99.5 on two digits would be 1e+02.
    return _fixed(ratio, max(0, _decimals(rounded, 2)))


def _decimals(value: float, digits: int) -> int:
    return digits - 1 - math.floor(math.log10(abs(value))) if value else 0


def _fixed(value: float, decimals: int) -> str:
    return f"{round(value, decimals):.{max(0, decimals)}f}"


def _row(summary: Mapping[str, Any], measure: Measure) -> Row:
    cells = {
        name: _cell(
            group.get(measure.name), measure.scale, summary["runs_by_group"][name]
        )
        for name, group in summary["groups"].items()
    }
    ratios = [pair.get(f"ratio/{measure.name}") for pair in summary["pairs"].values()]
    label = f"{measure.label}, {measure.unit}" if measure.unit else measure.label
    return Row(
        measure.section,
        label,
        measure.mode,
        cells,
        _contrast(ratios[0]) if ratios else "",
    )


def _cell(entry: Mapping[str, Any] | None, scale: float, runs: int) -> Cell:
    if entry is None:
        return Cell(ABSENT, "0", "")
    if "pooled" in entry:
        n = counted(len(entry["values"]), runs) + " pooled" * (runs > 1)
        return Cell(or_infinite(scale * entry["pooled"]), n, "")
    n = counted(entry["n"], runs) if entry["values"] else "0"
    n = ", ".join(filter(None, [n, doubt(entry)]))
    paper = (
        quoted(*(scale * entry["paper"][key] for key in ("mean", "std")))
        if "paper" in entry
        else ""
    )
    return Cell(spread(scale * entry["mean"], scale * entry["std"]), n, paper)


def _contrast(ratio: Mapping[str, Any] | None) -> str:
    if ratio is None:
        return ""
    number, total = ratio["n"], len(ratio["values"])
    of = "" if number == total else f" ({counted(number, total)})"
    shown = f"{_TIMES} {spread(ratio['mean'], ratio['std'])}{of}"
    return shown if number else ABSENT

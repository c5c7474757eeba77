"""Tables 2 to 4 of arXiv:1609.04836 beside ours, and a verdict for every pair of their cells."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, NamedTuple

from bsexp import keskar2017
from bsexp.report import tables
from bsexp.report.measures import (
    MODES,
    PAPERS_MODE,
    PAPERS_SEARCH,
    SEARCHES,
    STALLED,
    in_mode,
)
from bsexp.report.welch import LEVEL, welch, written

FACTOR = 3.0
GROUPS = ("SB", "LB")
TRAINING = "train_accuracy/batch"
RULE = (
    "A verdict is about a pair of cells, SB and LB of one measure. “Same direction”: the paper's SB and LB differ, and ours differ "
    f"the same way in a one-sided Welch test at {100 * LEVEL:.0f} % over seeds, for accuracies as for φ. “Ratio within a factor {FACTOR:g}”, "
    f"for φ only: mean LB / mean SB is at most {FACTOR:g} times above or below the paper's. “Not reproduced”: neither, though it could "
    "be tested. “Cannot be told”: one seed, or seeds without any spread, allow no test, and the ratio does not decide; or the paper's two "
    "values are equal. “Not run here”: there is no value in both groups. "
    f"“Stalled”: at so many seeds L-BFGS-B found less than {100 * STALLED:.0f} % of what sign ascent found at the same point, which is a "
    "failed search and not a flat minimum: its φ is a bound from below. Where one stalled, the verdict is “same direction” if the test "
    "says so and all of SB's searches went well, and else “cannot be told”. †: to be checked against the paper, from a single transcription."
)
SAME, RATIO = "same direction", f"ratio within a factor {FACTOR:g}"
BOTH = f"{SAME}, {RATIO}"
FAILED, UNKNOWN, NOT_RUN = "not reproduced", "cannot be told", "not run here"
VERDICTS = (BOTH, SAME, RATIO, FAILED, UNKNOWN, NOT_RUN)


class Cell(NamedTuple):
    """A pair of cells of the paper's tables.

    Attributes:
        table: 2, 3 or 4.
        label: in words.
        published: name of its measure in `keskar2017.values`.
        scale: what a value is multiplied by to be shown.
        ours: (mode, search, name of the measure) of each way in which it is measured here; no search of an accuracy.
    """

    table: int
    label: str
    published: str
    scale: float
    ours: tuple[tuple[str, str, str], ...]

    @property
    def expected(self) -> tuple[tuple[float, float], ...]:
        """The direction that is tested where the paper has no value; none of training accuracy, which it has both ways."""
        if self.published == TRAINING:
            return (0.0, 0.0), (0.0, 0.0)
        return ((0.0, 0.0), (1.0, 0.0))[:: 1 if self.table > 2 else -1]

    @property
    def outcomes(self) -> dict[str, str]:
        """What the verdicts are called where the paper has no value."""
        untested = {UNKNOWN: "not tested"} if self.published == TRAINING else {}
        return {
            FAILED: "no significant difference that way",
            SAME: "LB sharper" if self.table > 2 else "SB better",
            **untested,
        }


def _accuracy(split: str, label: str) -> Cell:
    name = f"{split}_accuracy"
    ours = tuple((mode, "", in_mode(name, mode)) for mode in MODES)
    return Cell(2, label, f"{name}/{PAPERS_MODE}", 100.0, ours)


def _sharpness(table: int, space: str, epsilon: str) -> Cell:
    name = f"sharpness/{space}/{epsilon}"
    ours = tuple(
        (mode, search, f"{name}/{mode}{suffix}")
        for mode in (PAPERS_MODE, "running")
        for search, suffix in ((PAPERS_SEARCH, f"/{PAPERS_SEARCH}"), ("best", ""))
    )
    published = f"{name}/{PAPERS_MODE}/{PAPERS_SEARCH}"
    return Cell(table, f"φ, ε = {epsilon}", published, 1.0, ours)


CELLS = (
    _accuracy("train", "training accuracy, %"),
    _accuracy("test", "test accuracy, %"),
    *(
        _sharpness(table, space, epsilon)
        for table, space in ((3, "full"), (4, "subspace"))
        for epsilon in ("1e-3", "5e-4")
    ),
)


@dataclass(frozen=True)
class Row:
    """One pair of cells, measured in one way, as text.

    Attributes:
        table: 2, 3 or 4.
        network: name of the network, or of a study that the paper has not.
        label: the measure in words.
        mode: of batch norm.
        search: lbfgsb, best for the larger of both, or empty for accuracies.
        paper: SB and LB; empty where the paper has none.
        ours: SB and LB with their n, and how many of these are searches that stalled.
        ratios: mean LB / mean SB of the paper and of ours; empty for accuracies.
        stalled: whether any of these searches stalled.
        p: of the test; NaN where there is none.
        verdict: one of `VERDICTS`, or the outcome of the test where the paper has no value.
    """

    table: int
    network: str
    label: str
    mode: str
    search: str
    paper: tuple[str, str]
    ours: tuple[str, str]
    ratios: tuple[str, str]
    stalled: bool
    p: float
    verdict: str

    @property
    def closest(self) -> bool:
        """Whether it is measured as the paper's cell seems to have been: with the statistics of the batch, φ by L-BFGS-B."""
        return self.mode == PAPERS_MODE and self.search in {"", PAPERS_SEARCH}

    @property
    def cell(self) -> tuple[str, int, str]:
        """The pair of the paper's cells that it is about."""
        return self.network, self.table, self.label

    @property
    def left_open(self) -> bool:
        """Whether a search that stalled keeps it from being told."""
        return self.stalled and self.verdict == UNKNOWN

    @property
    def p_value(self) -> str:
        """Write it; empty where there is none."""
        return written(self.p).removeprefix("= ")

    @property
    def way(self) -> str:
        """The search in words."""
        return {"best": "larger of both", "": ""}.get(
            self.search, SEARCHES.get(self.search, "")
        )


def rows(network: str, summary: Mapping[str, Any] | None) -> Iterator[Row]:
    """Yield the rows of a network of the paper, one a cell where it was not run here (None), in the paper's order."""
    published = keskar2017.values(network)
    for cell in CELLS:
        paper = tuple(published[group][cell.published] for group in GROUPS)
        nothing = _Way(*cell.ours[0][:2], ([], []), (0, 0))
        for way in list(_ways(cell, summary)) or [nothing]:
            yield _row(cell, network, way, paper)


def rows_beyond(summary: Mapping[str, Any], title: str) -> Iterator[Row]:
    """Yield the rows of a study of SB and LB that the paper has not; what is tested is that SB is better and LB sharper."""
    for cell in CELLS:
        for way in _ways(cell, summary):
            yield _row(cell, title, way, None)


def verdict(
    ours: Sequence[Sequence[float]],
    paper: Sequence[tuple[float, float]],
    *,
    ratio_counts: bool,
    stalled: Sequence[int] = (0, 0),
) -> tuple[str, float]:
    """Return the verdict and the p-value of the test.

    Args:
        ours: finite values of SB and of LB, one a seed.
        paper: (mean, deviation) of SB and of LB.
        ratio_counts: whether the ratio of the means is looked at: for φ, not for accuracies.
        stalled: how many searches of SB and of LB stalled, whose values are bounds from below. Of the group that is to be the
            flatter one they are not tested.
    """
    if not all(ours):
        return NOT_RUN, math.nan
    (small, _), (large, _) = paper
    p_value = math.nan
    if small != large:
        p_value = welch(*(ours if small > large else reversed(ours)))
    if stalled[small > large]:  # how flat the flatter one is is not known
        return UNKNOWN, math.nan
    if any(stalled):
        return (SAME if p_value < LEVEL else UNKNOWN), p_value
    near = ratio_counts and _near(_ratio(*map(_mean, ours)), large / small)
    if p_value < LEVEL:
        return (BOTH if near else SAME), p_value
    if near:
        return RATIO, p_value
    return (UNKNOWN if math.isnan(p_value) else FAILED), p_value


def one_a_cell(rows: Sequence[Row]) -> list[Row]:
    """Return one row for each pair of the paper's cells: the closest way, or that it was not run."""
    not_run = {row.cell: row for row in rows if row.verdict == NOT_RUN}
    chosen = not_run | {row.cell: row for row in rows if row.closest}
    return [row for row in rows if chosen.get(row.cell) is row]


def with_the_better_search(rows: Sequence[Row]) -> list[Row]:
    """Return one row for each pair of cells, and behind one that a stalled search leaves open that of both searches."""
    found = one_a_cell(rows)
    left_open = {(*row.cell, row.mode) for row in found if row.left_open}
    return [
        row
        for row in rows
        if row in found
        or (row.search != PAPERS_SEARCH and (*row.cell, row.mode) in left_open)
    ]


class _Way(NamedTuple):
    """A pair of cells as measured in one way: values of SB and LB, and at how many seeds the search stalled."""

    mode: str
    search: str
    ours: tuple[list[float], ...]
    stalled: tuple[int, ...]


def _row(
    cell: Cell,
    network: str,
    way: _Way,
    paper: tuple[tuple[float, float], ...] | None,
) -> Row:
    is_ratio = cell.table > 2
    found, p_value = verdict(
        way.ours,
        paper or cell.expected,
        ratio_counts=is_ratio and paper is not None,
        stalled=way.stalled,
    )
    if paper is None:
        found = cell.outcomes.get(found, found)
    scaled = [[cell.scale * value for value in values] for values in way.ours]
    return Row(
        cell.table,
        network,
        cell.label,
        way.mode,
        way.search,
        paper=_published(cell, network, paper) if paper else ("", ""),
        ours=tuple(map(_text, scaled, way.stalled)),
        ratios=(
            tables.times(_ratio(paper[0][0], paper[1][0]))
            if paper and is_ratio
            else "",
            tables.times(_ratio(*map(_mean, way.ours))) if is_ratio else "",
        ),
        stalled=any(way.stalled),
        p=p_value,
        verdict=found,
    )


def _published(
    cell: Cell, network: str, paper: tuple[tuple[float, float], ...]
) -> tuple[str, ...]:
    return tuple(
        tables.quoted(cell.scale * mean, cell.scale * std)
        + (" †" if (network, group, cell.published) in keskar2017.UNCHECKED else "")
        for group, (mean, std) in zip(GROUPS, paper, strict=True)
    )


def _ways(cell: Cell, summary: Mapping[str, Any] | None) -> Iterator[_Way]:
    """Yield every way in which a pair was measured, in one group at least."""
    for mode, search, name in cell.ours:
        ours = tuple(_values(summary, group, name, search) for group in GROUPS)
        stalled = tuple(
            _stalled(summary, group, name) if search == PAPERS_SEARCH else 0
            for group in GROUPS
        )
        if any(ours):
            yield _Way(mode, search, ours, stalled)


def _values(
    summary: Mapping[str, Any] | None, group: str, name: str, search: str
) -> list[float]:
    """Return a group's values, one a seed; of the paper's search without a value 0, which is a bound from below as well."""
    found = _by_seed(summary, group, name)
    if search == PAPERS_SEARCH:
        return [value if math.isfinite(value) else 0.0 for value in found]
    return [value for value in found if math.isfinite(value)]


def _stalled(summary: Mapping[str, Any] | None, group: str, name: str) -> int:
    """Count the seeds at which the paper's search found next to nothing of what the other one did."""
    best = _by_seed(summary, group, name.removesuffix(f"/{PAPERS_SEARCH}"))
    papers = _by_seed(summary, group, name)
    # NOTE: a search without a finite value found nothing, as one that hardly left the point; the other one may have as well.
    return sum(not a >= STALLED * b for a, b in zip(papers, best, strict=False))


def _by_seed(summary: Mapping[str, Any] | None, group: str, name: str) -> list[float]:
    entry = ((summary or {}).get("groups", {}).get(group) or {}).get(name)
    return entry["values"] if entry else []


def _near(ratio: float, other: float) -> bool:
    return ratio > 0 and 1 / FACTOR <= ratio / other <= FACTOR


def _ratio(small: float, large: float) -> float:
    return large / small if small else math.nan


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan


def _text(values: list[float], stalled: int) -> str:
    if not values:
        return tables.ABSENT
    spread = stdev(values) if len(values) > 1 else math.nan
    count = f"{len(values)}, {stalled} stalled" if stalled else f"{len(values)}"
    return f"{tables.spread(fmean(values), spread)} ({count})"

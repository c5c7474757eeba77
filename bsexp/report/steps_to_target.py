"""Updates and examples until the target against the batch size, and the critical batch size between them: arXiv:1812.06162."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from bsexp.report.folder import TARGET, Run, Study, number, section
from bsexp.report.look import COLOURS, legend_below, plain_ticks, styled
from bsexp.report.sizes import differ_in_size_alone, listed, tuned_for_size

LEVEL = 0.95  # of the interval of B_crit
# Candidates for B_crit: a 400th apart, and so far beyond the batch sizes that there these do not tell one from the next.
BEYOND, SPACING = 1e3, 1 / 400


@dataclasses.dataclass(frozen=True)
class Law:
    """Updates S = S_min (1 + B_crit / B) until the target, at batch size B; examples E = B S.

    Attributes:
        updates: S_min, of any batch size.
        critical: B_crit, in examples, where a run takes twice S_min and twice E_min = S_min B_crit.
        low: lower end of its interval at 95 %; 0 where updates that do not depend on B are as likely.
        high: upper end; infinite where updates inversely proportional to B are.
        scatter: the standard deviation of a run about the law, as a factor.
    """

    updates: float
    critical: float
    low: float
    high: float
    scatter: float

    @property
    def examples(self) -> float:
        """E_min, the examples that the smallest batches need."""
        return self.updates * self.critical

    def steps(self, size: np.ndarray) -> np.ndarray:
        """Return the updates at some batch sizes."""
        return self.updates * (1 + self.critical / size)


def law(points: Sequence[tuple[int, float]]) -> Law | None:
    """Fit S = S_min (1 + B_crit / B), by least squares of log S.

    The interval holds the B_crit whose residuals R satisfy R <= R_min (1 + F / (n - 2)), F the quantile of F(1, n - 2) at
    95 %: the profile likelihood of normal errors of log S. Wrong to use where the learning rate is not tuned for each batch
    size: it is then what S tells of (arXiv:1811.03600).

    Args:
        points: (B, S), one a run.

    Returns:
        The law; None for fewer than three batch sizes, two of which any law fits.
    """
    if len({size for size, _ in points}) < 3:
        return None
    sizes, steps = np.array(points, float).T
    low, high = math.log(sizes.min() / BEYOND), math.log(sizes.max() * BEYOND)
    critical = np.exp(np.arange(low, high, SPACING))
    updates = np.log(steps) - np.log1p(critical[:, None] / sizes)
    residuals = np.sum((updates - updates.mean(1, keepdims=True)) ** 2, axis=1)
    best, free = int(residuals.argmin()), len(points) - 2
    allowed = residuals[best] * (1 + stats.f.ppf(LEVEL, 1, free) / free)
    inside = np.flatnonzero(residuals <= allowed)
    return Law(
        updates=math.exp(updates[best].mean()),
        critical=float(critical[best]),
        low=0.0 if inside[0] == 0 else float(critical[inside[0]]),
        high=math.inf
        if inside[-1] == len(critical) - 1
        else float(critical[inside[-1]]),
        scatter=math.exp(math.sqrt(residuals[best] / free)),
    )


@styled
def steps_to_target(study: Study) -> Figure | None:
    """Updates and examples until the target against the batch size, all axes logarithmic: a dot per run, and the law.

    Of each batch size the group that every run of which reached the target, with the fewest updates; the others faint. None
    where the groups do not differ in the batch size, with what is chosen for it, alone, or fewer than three reached it.
    """
    fastest = _fastest(study)
    found = law(_points(fastest))
    if found is None:
        return None
    figure = Figure(figsize=(9.0, 3.9), layout="constrained")
    figure.set_label("Updates and examples until the target, against the batch size.")
    # Examples are updates times the batch size.
    powers = {"updates": 0, "examples": 1}
    for axes, (what, power) in zip(figure.subplots(1, 2), powers.items(), strict=True):
        _draw(axes, study, fastest, found, power)
        axes.set_ylabel(f"{what} until {_target(study)}")
    handles, _ = axes.get_legend_handles_labels()
    legend_below(figure, handles, columns=2)
    return figure


def numbers(study: Study) -> dict[str, Any]:
    """Return the law and, by batch size, the group that it was fitted to; empty where there is no figure."""
    fastest = _fastest(study)
    found = law(_points(fastest))
    if found is None:
        return {}
    groups = {str(size): runs[0].group for size, runs in fastest.items()}
    return {**dataclasses.asdict(found), "groups": groups}


def answer(study: Study) -> Iterator[str]:
    """Say how many updates each batch size takes to the target, and what a larger one saves; nothing where there is no figure."""
    fastest = _fastest(study)
    found = law(_points(fastest))
    if found is None:
        return
    tuned = tuned_for_size(study)
    among = f", of the {', '.join(tuned)} tried at each the fastest" if tuned else ""
    means = {size: fmean(_reached(runs, "step")) for size, runs in fastest.items()}
    told = ", ".join(f"{mean:,.0f} at {size:,}" for size, mean in means.items())
    missed = sorted({run.batch_size for run in study.runs} - fastest.keys())
    never = f"; not reached by every run at {listed(missed)}" if missed else ""
    yield f"Updates until {_target(study)}{among}, to within an epoch: {told}{never}."
    yield _law_in_words(found)
    if edges := _at_the_edge(study, fastest):
        yield (
            f"At {listed(edges)} the fastest learning rate is the smallest or the largest that was tried: another one may be faster."
        )
    yield (
        f"The fewest examples: {_least(fastest, 'examples')}; the fewest seconds, on that machine and beside the runs that trained at the "
        f"same time: {_least(fastest, 'seconds')}."
    )


def _least(fastest: dict[int, list[Run]], what: str) -> str:
    """Write the lowest mean over the batch sizes, and where it is."""
    means = {size: fmean(_reached(runs, what)) for size, runs in fastest.items()}
    size = min(means, key=means.__getitem__)
    return f"{_written(means[size])}, at {size:,}"


def _law_in_words(found: Law) -> str:
    words = (
        f"S = S_min (1 + B_crit / B) fits with B_crit = {_written(found.critical)} (95 %: {_written(found.low)} to "
        f"{_written(found.high)}); a run scatters about it by {100 * (found.scatter - 1):.2g} %"
    )
    if found.low == 0 and math.isinf(found.high):
        return f"{words}: these runs do not tell where it lies."
    if found.low == 0:
        return f"{words}: the updates may not depend on the batch size."
    if math.isinf(found.high):
        return f"{words}: even at the largest batch size twice the examples in a batch may halve the updates."
    return (
        f"{words}. There a run takes twice the {_written(found.updates)} updates that no batch size can save, and twice the "
        f"{_written(found.examples)} examples that the smallest ones need."
    )


def _written(value: float) -> str:
    """Write three digits of a number, without an exponent."""
    if math.isinf(value):
        return "infinity"
    return f"{value:.3g}" if value < 100 else f"{float(f'{value:.3g}'):,.0f}"


def _fastest(study: Study) -> dict[int, list[Run]]:
    """Return of each batch size, in order, the group with the fewest updates, of those of which every run reached the target."""
    found: dict[int, list[Run]] = {}
    if differ_in_size_alone(study):
        for runs in study.groups.values():
            steps = _reached(runs, "step")
            known = found.get(size := runs[0].batch_size)
            if len(steps) == len(runs) and (
                known is None or fmean(steps) < fmean(_reached(known, "step"))
            ):
                found[size] = runs
    return dict(sorted(found.items()))


def _reached(runs: list[Run], what: str) -> list[float]:
    """Return when the runs of a group reached the target, those that did."""
    values = [run.values.get(f"{TARGET}{what}", math.nan) for run in runs]
    return [value for value in values if math.isfinite(value)]


def _points(groups: dict[int, list[Run]]) -> list[tuple[int, float]]:
    return [
        (size, steps)
        for size, runs in groups.items()
        for steps in _reached(runs, "step")
    ]


def _target(study: Study) -> str:
    """Write the target in words: validation accuracy 95 %."""
    train = section(section(study.record, "config"), "train")
    metric, target = str(train.get("target_metric")), number(train.get("target"))
    value = f"{100 * target:g} %" if metric.endswith("accuracy") else f"{target:g} nats"
    return f"{metric.replace('_', ' ')} {value}"


def _rates(study: Study) -> dict[str, float]:
    """Return the learning rate of each group."""
    settings = section(study.record, "config")
    common = number(section(settings, "optimizer").get("learning_rate"))
    groups = section(settings, "groups")
    return {
        name: number(
            section(section(groups, name), "optimizer").get("learning_rate", common)
        )
        for name in study.groups
    }


def _at_the_edge(study: Study, fastest: dict[int, list[Run]]) -> list[int]:
    """Return the batch sizes whose fastest group has the smallest or the largest of several learning rates."""
    rates = _rates(study)
    edges = []
    for size, runs in fastest.items():
        tried = {
            rates[name]
            for name, others in study.groups.items()
            if others[0].batch_size == size
        }
        if len(tried) > 1 and rates[runs[0].group] in {min(tried), max(tried)}:
            edges.append(size)
    return edges


def _draw(
    axes: Axes,
    study: Study,
    fastest: dict[int, list[Run]],
    found: Law,
    power: int,
) -> None:
    """Draw the updates of the runs and of the law, times a power of the batch size."""
    chosen = {runs[0].group for runs in fastest.values()}
    others = [
        (run.batch_size, step)
        for run in study.runs
        if run.group not in chosen
        for step in _reached([run], "step")
    ]
    for points, look in (
        (others, {"color": "0.6", "label": "other settings tried", "markersize": 3}),
        (
            _points(fastest),
            {
                "color": COLOURS[0],
                "label": "the fastest of each batch size",
                "markersize": 5,
            },
        ),
    ):
        if points:
            sizes, steps = np.array(points, float).T
            axes.plot(sizes, sizes**power * steps, "o", **look)
    every = {run.batch_size for run in study.runs}
    sizes = np.geomspace(min(every), max(every), 200)
    axes.plot(
        sizes,
        sizes**power * found.steps(sizes),
        color=COLOURS[0],
        label="S = S_min (1 + B_crit / B)",
    )
    for steps, line, label in (
        (found.examples / sizes, "--", "examples alone count: S = E_min / B"),
        (np.full_like(sizes, found.updates), ":", "updates alone count: S = S_min"),
    ):
        axes.plot(sizes, sizes**power * steps, line, color=COLOURS[1], label=label)
    if found.low > 0 and math.isfinite(found.high):
        axes.axvspan(found.low, found.high, color=COLOURS[2], alpha=0.2, linewidth=0)
    axes.axvline(found.critical, color=COLOURS[2], label="B_crit, with its interval")
    axes.set(xscale="log", yscale="log", xlabel="batch size")
    plain_ticks(axes.xaxis)
    plain_ticks(axes.yaxis)

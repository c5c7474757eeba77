"""Updates and examples until the target against the batch size, and what a larger one saves: arXiv:1811.03600."""

import dataclasses
import math
from collections.abc import Iterator
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bsexp.report import noise_scale
from bsexp.report.folder import TARGET, Run, Study, number, section
from bsexp.report.law import Law, fit
from bsexp.report.look import COLOURS, legend_below, plain_ticks, styled
from bsexp.report.measures import describe
from bsexp.report.sizes import differ_in_size_alone, listed, tried_at_a_size

SETTLED = ("done", "failed")


class Found(NamedTuple):
    """Of each batch size, in order, the runs of the fastest group, and the law that they follow."""

    fastest: dict[int, list[Run]]
    law: Law


@styled
def steps_to_target(study: Study) -> Figure | None:
    """Updates and examples until the target against the batch size, all axes logarithmic: a dot per run, and the law.

    Of each batch size the group every run of which reached the target, with the fewest updates; the others faint. None
    where the groups do not differ in the batch size, with what is chosen for it, alone, or fewer than three reached it.
    """
    found = found_in(study)
    if found is None:
        return None
    figure = Figure(figsize=(9.0, 4.1), layout="constrained")
    figure.set_label("Updates and examples until the target, against the batch size.")
    # Examples are updates times the batch size.
    powers = {"updates": 0, "examples": 1}
    for axes, (what, power) in zip(figure.subplots(1, 2), powers.items(), strict=True):
        _draw(axes, study, found, power)
        axes.set_ylabel(f"{what} until {_target(study)}")
    handles, _ = axes.get_legend_handles_labels()
    legend_below(figure, handles, columns=2)
    return figure


def numbers(study: Study) -> dict[str, Any]:
    """Return the law, by batch size the group that it is fitted to, and the noise scale there; empty where there is no figure."""
    found = found_in(study)
    if found is None:
        return {}
    groups = {str(size): runs[0].group for size, runs in found.fastest.items()}
    noise = {
        kind: dataclasses.asdict(each)
        for kind, each in noise_scale.typical(found.fastest.values()).items()
    }
    return {**dataclasses.asdict(found.law), "groups": groups, "noise_scale": noise}


def answer(study: Study) -> Iterator[str]:
    """Say how many updates each batch size takes to the target, and what a larger one saves; nothing where there is no figure."""
    found = found_in(study)
    if found is None:
        return
    tried = tried_at_a_size(study)
    among = f", of the {', '.join(tried)} tried at each the fastest" if tried else ""
    updates = {size: fmean(map(_updates, runs)) for size, runs in found.fastest.items()}
    examples = {size: size * mean for size, mean in updates.items()}
    seconds = {size: _speed(runs)[1] for size, runs in found.fastest.items()}
    told = ", ".join(f"{mean:,.0f} at {size:,}" for size, mean in updates.items())
    yield f"Updates until {_target(study)}{among}: {told}{_missed(study, found)}."
    yield _law_in_words(found.law)
    yield from _noise_in_words(noise_scale.typical(found.fastest.values()))
    yield from _not_tuned(study, found.fastest)
    yield f"The fewest examples: {_lowest(examples)}; the fewest seconds, on the machines that trained them: {_lowest(seconds)}."


def found_in(study: Study) -> Found | None:
    """Return of each batch size the group with the fewest updates, of those of which every run reached the target, and their law."""
    growing = section(section(study.record, "config"), "batch").get("growth_epochs")
    if growing or not differ_in_size_alone(study):
        return None
    fastest: dict[int, list[Run]] = {}
    for runs in sorted(filter(_reached, study.groups.values()), key=_speed):
        fastest.setdefault(runs[0].batch_size, runs)
    ordered = dict(sorted(fastest.items()))
    law = fit({size: [*map(_updates, runs)] for size, runs in ordered.items()})
    return Found(ordered, law) if law else None


def _missed(study: Study, found: Found) -> str:
    """Say of each batch size without a group that reached the target how far it came, and where the law has it."""
    told = ""
    for size in sorted({run.batch_size for run in study.runs} - found.fastest.keys()):
        runs = [run for run in study.runs if run.batch_size == size]
        made = max(
            (number(run.rows[-1].get("step")) for run in runs if run.rows), default=0
        )
        told += (
            f"; at {size:,} no setting brought every run there within {made:,.0f} updates, where the law has {found.law.steps(size):,.0f}"
            if all(run.state in SETTLED for run in runs)
            else f"; {size:,} is not yet trained"
        )
    return told


def _law_in_words(law: Law) -> str:
    ends = f"{_written(law.low)} to {_written(law.high)}"
    if law.low == 0 and math.isinf(law.high):
        return "These batch sizes do not tell where B_crit of S = S_min (1 + B_crit / B) lies."
    if law.low == 0:
        return f"B_crit of S = S_min (1 + B_crit / B) is below {_written(law.high)} (95 %): the updates may not depend on the batch size at all."
    if math.isinf(law.high):
        return (
            f"B_crit of S = S_min (1 + B_crit / B) is above {_written(law.low)} (95 %): twice the examples in a batch may halve the "
            "updates at any of these batch sizes."
        )
    return (
        f"S = S_min (1 + B_crit / B) fits with B_crit = {_written(law.critical)} (95 %: {ends}); a batch size scatters about it by "
        f"{_written(100 * (law.scatter - 1))} %. There a run takes twice the {_written(law.updates)} updates that no batch size can "
        f"save, and twice the {_written(law.examples)} examples that the smallest ones need."
    )


def _noise_in_words(noise: dict[str, noise_scale.Typical]) -> Iterator[str]:
    if not noise:
        return
    scales = [
        f"{describe(noise_scale.NAMES[kind]).label} is {_written(each.median)} "
        f"(half of {each.points} points along training: {_written(each.low)} to {_written(each.high)})"
        for kind, each in noise.items()
    ]
    yield (
        "The gradient noise scale, an estimate of B_crit that one run gives, measured in these runs, the seeds of a size together: "
        f"{'; '.join(scales)}."
    )


def _not_tuned(study: Study, fastest: dict[int, list[Run]]) -> Iterator[str]:
    """Yield at which batch sizes another learning rate may be faster."""
    rates = _rates(study)
    single, edge = [], []
    for size, runs in fastest.items():
        groups = {
            name: others
            for name, others in study.groups.items()
            if others[0].batch_size == size
            and all(run.state in SETTLED for run in others)
        }
        tried = {rates[name] for name in groups}
        # Equally fast ones among them.
        best = {
            rates[name]
            for name, others in groups.items()
            if _reached(others) and _speed(others)[0] <= _speed(runs)[0]
        }
        if len(tried) < 2:
            single.append(size)
        elif not any(min(tried) < rate < max(tried) for rate in best):
            edge.append(size)
    if single:
        yield f"At {listed(single)} one learning rate was tried: the updates may tell of it rather than of the batch size."
    if edge:
        yield f"At {listed(edge)} the fastest learning rate is the smallest or the largest that was tried: another one may be faster."


def _lowest(means: dict[int, float]) -> str:
    """Write the lowest of the batch sizes' means, and where it is."""
    known = {size: mean for size, mean in means.items() if math.isfinite(mean)}
    if not known:
        return "not known"
    size = min(known, key=known.__getitem__)
    return f"{_written(known[size])}, at {size:,}"


def _written(value: float) -> str:
    """Write three digits of a number, without an exponent."""
    if math.isinf(value):
        return "∞"
    return f"{value:.3g}" if value < 100 else f"{float(f'{value:.3g}'):,.0f}"


def _reached(runs: list[Run]) -> bool:
    return all(math.isfinite(_updates(run)) for run in runs)


def _speed(runs: list[Run]) -> tuple[float, float]:
    """Return a group's updates and, for those with equally many, its seconds."""
    seconds = fmean(run.values.get(f"{TARGET}seconds", math.nan) for run in runs)
    return fmean(map(_updates, runs)), seconds if math.isfinite(seconds) else math.inf


def _updates(run: Run) -> float:
    """Return the updates until the target; NaN where it was not reached.

    Halfway between the evaluation that found it and the one before: at the later one E_min, and B_crit with it, would be
    too high. At the later one where the curves are gone.
    """
    found = run.values.get(f"{TARGET}step", math.nan)
    steps = [number(row.get("step")) for row in run.rows]
    before = max((step for step in steps if step < found), default=0.0)
    return (before + found) / 2 if found in steps else found


def _target(study: Study) -> str:
    """Write the target in words: validation accuracy 95 %."""
    train = section(section(study.record, "config"), "train")
    metric, target = str(train.get("target_metric")), number(train.get("target"))
    value = f"{100 * target:g} %" if metric.endswith("accuracy") else f"{target:g} nats"
    return f"{metric.replace('_', ' ')} {value}"


def _rates(study: Study) -> dict[str, float]:
    """Return the learning rate of each group."""
    settings = section(study.record, "config")
    common = section(settings, "optimizer").get("learning_rate")
    groups = section(settings, "groups")
    return {
        name: number(
            section(section(groups, name), "optimizer").get("learning_rate", common)
        )
        for name in study.groups
    }


def _draw(axes: Axes, study: Study, found: Found, power: int) -> None:
    """Draw the updates of the runs and of the law, times a power of the batch size."""
    law, chosen = found.law, {runs[0].group for runs in found.fastest.values()}
    axes.set(xscale="log", yscale="log", xlabel="batch size")
    for label, fast, look in (
        ("other settings tried", False, {"color": "0.65", "markersize": 3}),
        (
            "the fastest of each batch size",
            True,
            {"color": COLOURS[0], "markersize": 5},
        ),
    ):
        points = [
            (run.batch_size, run.batch_size**power * _updates(run))
            for run in study.runs
            if (run.group in chosen) == fast and math.isfinite(_updates(run))
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "o", label=label, **look)
    sizes = np.geomspace(min(found.fastest), max(found.fastest), 200)
    curve = sizes**power * law.steps(sizes)
    axes.plot(sizes, curve, color=COLOURS[0], label="S = S_min (1 + B_crit / B)")
    # What follows reaches beyond the runs, and is to be seen beside them only.
    limits = {"xlim": axes.get_xlim(), "ylim": axes.get_ylim()}
    if law.bounded:
        for steps, line, label in (
            (law.examples / sizes, "--", "examples alone count: S = E_min / B"),
            (np.full_like(sizes, law.updates), ":", "updates alone count: S = S_min"),
        ):
            axes.plot(sizes, sizes**power * steps, line, color=COLOURS[1], label=label)
        axes.axvline(law.critical, color=COLOURS[2], linewidth=1, label="B_crit")
    left, right = limits["xlim"]
    axes.axvspan(
        min(max(law.low, left), right),
        max(min(law.high, right), left),
        color=COLOURS[2],
        alpha=0.2,
        linewidth=0,
        label="B_crit at 95 %",
    )
    axes.set(**limits)
    plain_ticks(axes.xaxis)
    plain_ticks(axes.yaxis)

"""The study in numbers: mean, spread and n of every measure, paired contrasts, and the answer."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from bsexp import results
from bsexp.report import (
    along,
    batch_sizes,
    folder,
    invariance,
    noise_scale,
    steps_to_target,
)
from bsexp.report.answer import answer
from bsexp.report.certainty import certainty
from bsexp.report.welch import standard_error, welch

RATIOS = ("target/", "sharpness/", "hessian/", "distance_from_start")
GAPS = ("train_accuracy", "test_accuracy")


def summarise(workdir: str | PathLike) -> dict[str, Any]:
    """Summarise a study's folder.

    Returns:
        ``{"schema", "name", "question", "answer", "groups", "pairs"}``. A group maps each measure to
        ``{"mean", "std", "n", "values", "seeds"}`` and, where the source gives it, "paper". A pair "LB/SB" has
        ``ratio/<measure>`` = LB / SB and ``gap/<measure>`` = SB - LB (fractions), seed by seed of those that are
        trained in both; NaN where one of the two runs has no value. A gap also has "p_value", of the one-sided Welch
        test that SB is higher, and "stderr", the standard error of that test. "runs_by_group" has the number of each group's
        runs, with and without values. std is the sample's (ddof = 1); NaN stands for what does not exist, which write() turns into null with a flag. A noise scale has
        "pooled" as well, see `noise_scale.pooled`, and an estimate what it is worth, see `certainty`.
        A study that measures along training has "along" as well: group -> epochs before the point -> measures. One of several
        batch sizes with a target has "steps_to_target": see `law.Law`, which group of each size it is fitted to, and
        the typical noise scales of these runs, see `noise_scale.Typical`.
    """
    study = folder.read(workdir)
    warning = [f"Data are a {folder.STAND_IN}, so nothing is reproduced here."]
    groups = {name: _group(study, name) for name in study.groups}
    pairs = _pairs(study)
    points = {name: _along(runs) for name, runs in study.groups.items()}
    finished = bool(study.record.get("finished"))
    thresholds = [*steps_to_target.answer(study), *batch_sizes.thresholds(study)]
    if thresholds and not finished:
        thresholds.insert(0, "So far, with the study unfinished:")
    law = steps_to_target.numbers(study)
    contrast = answer(study.comparison, groups, pairs, finished=finished)
    return {
        "schema": results.SCHEMA,
        "name": study.record["name"],
        "question": study.record["question"],
        "answer": " ".join(
            [
                *(warning if study.synthetic else []),
                # A curve over batch sizes needs no two groups.
                *([] if thresholds and study.comparison is None else [contrast]),
                *_without_numbers(study),
                *thresholds,
                *along.answer(study),
                *invariance.answer(study),
            ]
        ),
        "groups": groups,
        "runs_by_group": {name: len(runs) for name, runs in study.groups.items()},
        "pairs": pairs,
        **({"along": points} if any(points.values()) else {}),
        **({"steps_to_target": law} if law else {}),
    }


def write(workdir: str | PathLike) -> dict[str, Any]:
    """Write summary.json into a study's folder, and return what ``summarise`` gave."""
    summary = summarise(workdir)
    results.write_json(Path(workdir) / "summary.json", summary)
    return summary


def statistics(values: list[tuple[int, float]]) -> dict[str, Any]:
    """Mean, sample standard deviation and n of the finite ones among (seed, value), and all of them."""
    finite = [value for _, value in values if math.isfinite(value)]
    return {
        "mean": fmean(finite) if finite else math.nan,
        "std": stdev(finite) if len(finite) > 1 else math.nan,
        "n": len(finite),
        "values": [value for _, value in values],
        "seeds": [seed for seed, _ in values],
    }


def _group(study: folder.Study, name: str) -> dict[str, Any]:
    runs, paper = study.groups[name], study.paper(name)
    measured = _by_measure([(run.seed, run.values, run.measurements) for run in runs])
    summary: dict[str, Any] = {"batch_size": runs[0].batch_size, **measured}
    for measure, (mean, std) in paper.items():
        entry = summary.setdefault(measure, statistics([]))
        entry["paper"] = {"mean": mean, "std": std}
    return summary


def _along(runs: list[folder.Run]) -> dict[str, Any]:
    epochs = sorted({epoch for run in runs for epoch in run.along})
    return {
        str(epoch): _by_measure(
            [
                (run.seed, folder.values(run.along[epoch]), run.along[epoch])
                for run in runs
                if epoch in run.along
            ]
        )
        for epoch in epochs
    }


def _by_measure(
    measured: list[tuple[int, Mapping[str, float], Mapping[str, Any]]],
) -> dict[str, Any]:
    """Summarise (seed, measures, records that they are from) of several runs, measure by measure."""
    names = dict.fromkeys(name for _, values, _ in measured for name in values)
    return {
        name: _of_measure(name, [each for each in measured if name in each[1]])
        for name in names
    }


def _of_measure(
    name: str, measured: list[tuple[int, Mapping[str, float], Mapping[str, Any]]]
) -> dict[str, Any]:
    entry = statistics([(seed, values[name]) for seed, values, _ in measured])
    points = [point for *_, point in measured]
    if name.startswith(noise_scale.MEASURE):
        entry["pooled"] = noise_scale.pooled(points, name)
    return {**entry, **certainty(points, name)}


def _without_numbers(study: folder.Study) -> Iterator[str]:
    """Yield which runs failed and so are in no mean: that one diverged is an outcome too."""
    found = [
        f"{run.title} ({'diverged' if run.status.get('diverged') else 'failed'})"
        for runs in study.groups.values()
        for run in runs
        if run.state == "failed" and not run.measurements
    ]
    if found:
        yield f"Without any number: {'; '.join(found)}."


def _pairs(study: folder.Study) -> dict[str, Any]:
    if study.comparison is None:
        return {}
    runs = (study.groups.get(name, []) for name in study.comparison)
    baseline, compared = map(_by_seed, runs)
    seeds = sorted(baseline.keys() & compared.keys())
    pair: dict[str, Any] = {"seeds": seeds}
    theirs = {measure for seed in seeds for measure in compared[seed]}
    for measure in dict.fromkeys(m for seed in seeds for m in baseline[seed]):
        if measure not in theirs:
            continue
        both = [
            (
                seed,
                baseline[seed].get(measure, math.nan),
                compared[seed].get(measure, math.nan),
            )
            for seed in seeds
        ]
        if measure.startswith(RATIOS):
            pair[f"ratio/{measure}"] = statistics(
                [(seed, _ratio(a, b)) for seed, a, b in both]
            )
        if measure.startswith(GAPS):
            pair[f"gap/{measure}"] = _gap(both)
    return {"/".join(reversed(study.comparison)): pair}


def _by_seed(runs: list[folder.Run]) -> dict[int, dict[str, float]]:
    # Two runs of one group and seed differ in something else: neither has a partner that is surely its own.
    count = Counter(run.seed for run in runs)
    return {run.seed: run.values for run in runs if count[run.seed] == 1}


def _ratio(baseline: float, compared: float) -> float:
    # A trace away from a minimum may be negative: "-8 times as large" says nothing.
    return compared / baseline if baseline > 0 <= compared else math.nan


def _gap(both: list[tuple[int, float, float]]) -> dict[str, Any]:
    gap = statistics([(seed, a - b) for seed, a, b in both])
    finite = [(a, b) for _, a, b in both if math.isfinite(a - b)]
    baseline, compared = zip(*finite, strict=True) if finite else ((), ())
    return {
        **gap,
        "p_value": welch(baseline, compared),
        "stderr": standard_error(baseline, compared),
    }

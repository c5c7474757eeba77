"""Curvature in detail: the trace by layer, eigenvalues, the spectral density."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bsexp.report import tables
from bsexp.report.folder import Run, Study, number, numbers, section
from bsexp.report.look import (
    MARKERS,
    legend_below,
    looks,
    plain_number,
    plain_ticks,
    styled,
    title,
)
from bsexp.report.measures import MODES

NOISE = 1e-3  # of the largest trace: near it the axis turns from logarithmic to linear
LOWEST = 1e-7  # of the peak: below a single eigenvalue of a few million


@dataclass(frozen=True)
class Row:
    """One line of a run's table, as text."""

    run: str
    mode: str
    name: str
    value: str
    known: str


def layers(study: Study) -> Iterator[Row]:
    """The trace of each parameter's own block of the Hessian, with its standard error, by run and mode."""
    for run, mode, detail in _details(study, "trace"):
        for path, layer in section(detail, "layers").items():
            value, stderr = (number(layer.get(key)) for key in ("trace", "stderr"))
            yield Row(run.title, mode, path, tables.spread(value, stderr), "")


def eigenvalues(study: Study) -> Iterator[Row]:
    """The largest eigenvalues with their residuals, by run and mode; a single one stands in the main table."""
    for run, mode, detail in _details(study, "lambda_max"):
        values = numbers(detail.get("eigenvalues"))
        residuals = numbers(detail.get("residuals"))
        converged = detail.get("all_converged") or []
        if len(values) < 2:
            continue
        for i, found in enumerate(zip(values, residuals, converged, strict=True)):
            value, residual, settled = found
            known = tables.spread(residual, math.nan)
            yield Row(
                run.title,
                mode,
                f"λ{i + 1}",
                tables.spread(value, math.nan),
                known if settled else f"{known}, not converged",
            )


def print_details(study: Study, console: Console) -> None:
    """Print both tables on a terminal."""
    for heading, column, rows in (
        ("Trace of the Hessian by parameter, ± standard error", "parameter", layers),
        ("Largest eigenvalues of the Hessian", "eigenvalue", eigenvalues),
    ):
        listed = list(rows(study))
        if not listed:
            continue
        table = Table("batch norm", column, title=heading)
        table.add_column("value", justify="right")
        if any(row.known for row in listed):
            table.add_column("residual", justify="right")
        for row in listed:
            texts = (row.mode, row.name, row.value, row.known)
            table.add_row(*map(Text, texts[: len(table.columns)]))
        console.print(table)


@styled
def density(study: Study) -> Figure | None:
    """Spectral density of the Hessian of each run, with its band and the eigenvalues apart from the bulk.

    One panel per batch-norm mode; None where no run has measured it.
    """
    found = {mode: list(_densities(study, mode)) for mode in MODES}
    found = {mode: curves for mode, curves in found.items() if curves}
    if not found:
        return None
    figure = Figure(
        figsize=(max(4.9 * len(found) + 0.4, 7.5), 3.9), layout="constrained"
    )
    figure.set_label("Spectral density of the Hessian, by batch-norm mode.")
    panels = np.ravel(figure.subplots(1, len(found), sharey=True))
    for panel, (mode, curves) in zip(panels, found.items(), strict=True):
        named = set()
        for runs, detail, look in curves:
            name = title(runs)
            _density_curve(panel, detail, look, "" if name in named else name)
            named.add(name)
        panel.set_title(f"batch norm: {MODES[mode]}")
        panel.set_xlabel("eigenvalue λ")
        panel.set_yscale("log")
    top = max(
        value
        for curves in found.values()
        for _, detail, _ in curves
        for value in numbers(detail.get("mean"))
        if math.isfinite(value)
    )
    panels[0].set_ylim(LOWEST * top, 3 * top)
    plain_ticks(panels[0].yaxis)
    panels[0].set_ylabel("density of eigenvalues")
    handles, _ = panels[0].get_legend_handles_labels()
    legend_below(figure, handles)
    return figure


@styled
def trace_by_layer(study: Study) -> Figure | None:
    """The trace of each parameter's own block of the Hessian: mean over a group's runs, with its spread.

    The error bar is the standard deviation over runs, or the standard error where there is one run. One panel
    per batch-norm mode; None where it was not measured.
    """
    found = {mode: dict(_groups_of_layers(study, mode)) for mode in MODES}
    found = {mode: groups for mode, groups in found.items() if groups}
    if not found:
        return None
    # Groups may have different networks, and so different parameters.
    paths = list(
        dict.fromkeys(
            path
            for groups in found.values()
            for dots in groups.values()
            for path in dots
        )
    )
    figure = Figure(
        figsize=(max(4.6 * len(found) + 2.2, 7.5), 0.26 * len(paths) + 1.4),
        layout="constrained",
    )
    figure.set_label("Trace of the Hessian by parameter, group and batch-norm mode.")
    panels = np.ravel(figure.subplots(1, len(found), sharey=True))
    for panel, (mode, groups) in zip(panels, found.items(), strict=True):
        for i, (runs, (colour, _)) in enumerate(looks(study)):
            dots = groups.get(runs[0].group)
            if dots is None:
                continue
            nothing = math.nan, math.nan
            values, errors = zip(
                *(dots.get(path, nothing) for path in paths), strict=True
            )
            panel.errorbar(
                values,
                np.arange(len(paths)) + 0.8 * ((i + 0.5) / len(study.groups) - 0.5),
                xerr=np.nan_to_num(errors),
                linestyle="",
                marker=MARKERS[i % len(MARKERS)],
                markersize=3.5,
                elinewidth=0.8,
                color=colour,
                label=title(runs),
            )
        _logarithmic_above_noise(panel)
        panel.set_title(f"batch norm: {MODES[mode]}")
        panel.set_xlabel("trace")
    panels[0].set_yticks(np.arange(len(paths)), paths)
    panels[0].set_ylim(len(paths) - 0.4, -0.6)
    handles, _ = panels[0].get_legend_handles_labels()
    legend_below(figure, handles)
    return figure


def _details(study: Study, kind: str) -> Iterator[tuple[Run, str, Mapping[str, Any]]]:
    for runs in study.groups.values():
        for run in runs:
            for mode in MODES:
                record = run.measurements.get(f"hessian/{kind}/{mode}")
                if record:
                    yield run, mode, section(record, "detail")


def _densities(study: Study, mode: str) -> Iterator[tuple[list[Run], Any, Any]]:
    for runs, look in looks(study):
        for run in runs:
            record = run.measurements.get(f"hessian/density/{mode}")
            detail = section(record, "detail")
            # One of numbers that are not finite, which the report names among what it lacks.
            if any(map(math.isfinite, numbers(detail.get("mean")))):
                yield runs, detail, look


def _density_curve(
    panel: Axes, detail: Mapping[str, Any], look: tuple[str, str], name: str
) -> None:
    colour, line = look
    grid, mean, lower, upper = (
        np.array(numbers(detail.get(key))) for key in ("grid", "mean", "lower", "upper")
    )
    floor = np.finfo(
        np.float64
    ).tiny  # a band that reaches below zero ends at the frame
    panel.plot(grid, np.maximum(mean, floor), color=colour, linestyle=line, label=name)
    panel.fill_between(
        grid, np.maximum(lower, floor), upper, color=colour, alpha=0.2, linewidth=0
    )
    apart = numbers(detail.get("outliers"))
    panel.plot(
        apart,
        [0.03] * len(apart),
        linestyle="",
        marker="^",
        markersize=5,
        color=colour,
        transform=panel.get_xaxis_transform(),
    )


def _logarithmic_above_noise(panel: Axes) -> None:
    """Make a panel's x axis logarithmic, and linear near zero: small traces are noise of either sign."""
    largest = np.abs(panel.dataLim.intervalx).max()
    if 0 < largest < math.inf:
        # A power of ten, so that no label falls between it and zero.
        linear = 10.0 ** math.floor(math.log10(NOISE * largest))
        panel.set_xscale("symlog", linthresh=linear)
        panel.xaxis.set_major_formatter(plain_number)


def _groups_of_layers(
    study: Study, mode: str
) -> Iterator[tuple[str, dict[str, tuple[float, float]]]]:
    """Each group's path -> (mean, standard deviation over runs, or the one run's standard error)."""
    for name, runs in study.groups.items():
        records = [run.measurements.get(f"hessian/trace/{mode}") for run in runs]
        found = [section(section(record, "detail"), "layers") for record in records]
        found = [each for each in found if each]
        if not found:
            continue
        dots = {}
        for path in found[0]:
            values = [number(section(each, path).get("trace")) for each in found]
            stderr = number(section(found[0], path).get("stderr"))
            spread = np.std(values, ddof=1) if len(values) > 1 else stderr
            dots[path] = float(np.mean(values)), float(spread)
        yield name, dots

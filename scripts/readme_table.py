"""Write what committed results say into README.md, between markers: studies' tables, verdicts, Figure 4, what a larger batch saves, speed.

    python scripts/readme_table.py

The markers are ``<!-- FOLDER: ... -->``, for each of the folders below, up to ``<!-- end -->``.
README quotes what stands in results/ and nothing else; a test fails where the two differ.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bsexp import results
from bsexp.report import (
    batch_sizes,
    collection,
    counting,
    folder,
    measures,
    steps_to_target,
    tables,
    verdicts,
)

ROOT = Path(__file__).parent.parent
STUDY = Path("results/sharp_minima")
ALL_EXAMPLES = Path("results/sharp_minima-all_examples")
LOSS_MAXIMISED = Path("results/sharp_minima-loss_maximised")
COLLECTION = Path("results/keskar2017")
SWEEP = COLLECTION / "batch_size_sweep"
CRITICAL = Path("results/critical_batch_size")
BENCHMARKS = Path("results/benchmarks")
ALONE, PAIR = (
    "one run",
    "two runs side by side",
)  # as scripts/benchmarks/training.py names them
MARKED = r"(<!-- {folder}: .*? -->\n).*?(<!-- end -->)"
QUOTED = (
    "Accuracy",
    "Sharpness φ",
    "Hessian",
    "Distance",
)  # sections of the report's table


def main(words: list[str]) -> int:
    """Replace what stands between the markers; takes no arguments."""
    if words == ["--help"]:
        print(__doc__)
        return 0
    if words:
        print("usage: python scripts/readme_table.py", file=sys.stderr)
        return 2
    file = ROOT / "README.md"
    file.write_text(with_table(file.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def with_table(text: str) -> str:
    """Return README's text with the tables as results/ has them."""
    quotations = {
        STUDY: quotation,
        COLLECTION: verdict_table,
        SWEEP: figure_4,
        CRITICAL: savings,
        BENCHMARKS: speeds,
    }
    for place, quote in quotations.items():
        marked = re.compile(MARKED.format(folder=place.as_posix()), re.DOTALL)
        text = marked.sub(
            lambda found, quote=quote: found[1] + quote() + found[2], text
        )
    return text


def verdict_table() -> str:
    """Return the verdict of every pair of cells of Tables 2 to 4 that was run here, and what was not, in Markdown."""
    members = collection.read(ROOT / COLLECTION)
    measured = collection.paper_rows(members)
    rows = verdicts.one_a_cell(measured)
    head = ["table", "network", "", "paper: SB", "LB", "ours: SB (n)", "LB (n)"]
    lines = [
        [str(row.table), row.network, _what(row), *row.paper, *row.ours, row.verdict]
        for row in verdicts.with_the_better_search(measured)
        if row.verdict != verdicts.NOT_RUN
    ]
    table = _in_markdown([*head, "verdict"], lines)
    there = {row.network for row in rows if row.verdict != verdicts.NOT_RUN}
    absent = dict.fromkeys(row.network for row in rows if row.network not in there)
    not_run = (
        f" The report says how many hours {', '.join(absent)} would take."
        if absent
        else ""
    )
    ways = _listed(collection.scores(measured))
    but = _listed(collection.differences(members))
    return (
        f"\n{table}\n\n"
        "All with the statistics of the batch, as the paper's released code, of C1 to C4, has it for accuracies, and φ by L-BFGS-B. "
        f"{counting.counts_by_network(rows, collection.lengths(members))}. {counting.corrected(rows)}{not_run} {collection.distances(members)} What keeps our cells from being the paper's measurement:\n\n{but}\n\n"
        f"<details><summary>The rule of the verdicts, and how they come out by every way of measuring</summary>\n\n{verdicts.RULE}\n\n"
        f"{ways}\n\n</details>\n\n"
    )


def _what(row: verdicts.Row) -> str:
    """Name a measure, and the search where it is not the paper's."""
    return row.label if row.closest else f"{row.label}, {row.way}"


def _listed(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def figure_4() -> str:
    """Return the figure of accuracy and sharpness against the batch size, and in words where they change, in Markdown."""
    study = folder.read(ROOT / SWEEP)
    sizes = [runs[0].batch_size for runs in study.groups.values()]
    seeds = min(map(len, study.groups.values()))
    (first, *_) = measures.MODES
    told = " ".join(batch_sizes.thresholds(study, [first]))
    return (
        f"\n![Test accuracy and sharpness against the batch size]({SWEEP}/figures/batch_sizes.svg)\n\n"
        f"As the paper's Figure 4, which shows F2 and C1: F1 on MNIST with Adam, batch sizes from {min(sizes)} to {max(sizes):,}, "
        f"{_epochs(study.record)} epochs and {seeds} seeds each ([report]({SWEEP}/report.html)). {told}\n\n"
    )


def savings() -> str:
    """Return the figure of updates until the target against the batch size, and in words what a larger one saves, in Markdown."""
    study = folder.read(ROOT / CRITICAL)
    told = " ".join(steps_to_target.answer(study))
    return (
        f"\n![Updates and examples until the target against the batch size]({CRITICAL}/figures/steps_to_target.svg)\n\n"
        f"{told} Other programs ran beside a part of the runs: the seconds are rough ([report]({CRITICAL}/report.html)).\n\n"
    )


def speeds() -> str:
    """Return how fast training is beside PyTorch on each machine without an accelerator, the fastest first, in Markdown."""
    measured = {
        file: results.read_json(file, "rows", "environment")
        for file in (ROOT / BENCHMARKS).glob("training*.json")
    }
    head = [
        "two cores",
        "matrix products, GFLOP/s",
        *("F1, B = 16", "256", "6 000", "C1, 256"),
        "two runs side by side at 16, against in turn",
    ]
    machines = sorted(
        (
            _machine(file, content)
            for file, content in measured.items()
            if content["environment"]["devices"][0].startswith("cpu")
        ),
        reverse=True,
    )
    return f"\n{_in_markdown(head, [cells for _, cells in machines])}\n\n"


def _machine(file: Path, measured: Mapping[str, Any]) -> tuple[float, list[str]]:
    """Return a machine's highest rate of matrix products and its line of the table."""
    rows = measured["rows"]

    def ratios(name: str, size: int, **also: str) -> list[float]:
        chosen = {"batch_size": size, **also}
        return [
            row[name]
            for row in rows
            if name in row
            and chosen.items() <= row.items()
            and "not fused" not in row["benchmark"]
        ]

    def beside_torch(size: int) -> str:
        # The faster form of PyTorch is the one that leaves the lower ratio.
        ours = min(ratios("times_as_fast", size, cohort=PAIR))
        (of_the_limit,) = ratios("times_the_arithmetic_limit", size, cohort=PAIR)
        return f"{_ratio(ours)} of {_ratio(ours * of_the_limit)}"

    rates = [row["matmul_gflops"] for row in rows if "matmul_gflops" in row]
    (in_turn,) = ratios("times_the_throughput", 16)
    cells = [
        f"[{measured['environment']['cpu']}]({file.relative_to(ROOT)})",
        f"{min(rates):.0f} to {max(rates):.0f}",
        *map(beside_torch, (16, 256, 6_000)),
        _ratio(min(ratios("times_as_fast", 256, cohort=ALONE))),
        _ratio(in_turn),
    ]
    return max(rates), cells


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def quotation() -> str:
    """Return the answer, the table and where it was computed, in Markdown."""
    summary, study, environment = (
        results.read_json(ROOT / STUDY / f"{name}.json")
        for name in ("summary", "study", "env")
    )
    minutes = environment["seconds"]["total"] / 60
    where = (
        f"{environment['cpu']}, {environment['cores']} cores, jax {environment['packages']['jax']}, "
        f"{minutes:.0f} minutes in all; `{study['command']}`"
    )
    lengths = (
        f"Mean ± standard deviation over n seeds, after {_epochs(study)} epochs: the quick study. The table at the top has "
        "longer training and more seeds; trained less, SB is sharper."
    )
    parts = [
        summary["answer"],
        _table(summary),
        f"{lengths} {where}.",
        _on_all_examples(),
    ]
    return "\n" + "\n\n".join(parts) + "\n\n"


def _epochs(study: Mapping[str, Any]) -> int:
    return study["config"]["train"]["epochs"]


def _on_all_examples() -> str:
    """Return what the paper's search finds in mode batch over the whole training set, handed φ and handed the loss."""
    name = "sharpness/full/1e-3/batch"
    phi, loss = (
        results.read_json(ROOT / study / "summary.json")["groups"]
        for study in (ALL_EXAMPLES, LOSS_MAXIMISED)
    )

    def quoted(groups: Mapping[str, Any], measure: str) -> str:
        small, large = (
            tables.spread(groups[group][measure]["mean"], groups[group][measure]["std"])
            for group in ("SB", "LB")
        )
        return f"{small} at SB and {large} at LB"

    return (
        "**What the search is handed decides what it finds.** In mode batch the table's φ is that of 10 000 of the 60 000 training "
        f"examples. On all of them ([{ALL_EXAMPLES}]({ALL_EXAMPLES}), ε = 1e-3, the same minima) ten iterations of L-BFGS-B on φ find "
        f"{quoted(phi, f'{name}/lbfgsb')}, and the larger of both searches is {quoted(phi, name)}. The paper does not say whether its "
        "search was on φ or on the loss. The first step of L-BFGS-B is as long as the gradient, which at a minimum is 100 times shorter "
        f"for the loss: on that ([{LOSS_MAXIMISED}]({LOSS_MAXIMISED})) it finds {quoted(loss, f'{name}/lbfgsb')}, where it hardly leaves "
        "the minimum. That is a failed search and not a flat minimum, and it is why bsexp runs two."
    )


def _table(summary: dict[str, Any]) -> str:
    groups = summary["groups"]
    head = ["", "batch norm"]
    for name, group in groups.items():
        head += [f"{name}, B = {group['batch_size']:,} (n)", "paper"]
    lines = []
    for row in tables.rows(summary):
        if row.section in QUOTED:
            cells = [
                text
                for cell in row.cells.values()
                for text in (f"{cell.value} ({cell.n})", cell.paper)
            ]
            lines.append([row.label, row.mode, *cells])
    return _in_markdown(head, lines)


def _in_markdown(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(
        f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

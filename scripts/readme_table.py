"""Write the table of a committed study into README.md, between its two markers.

    python scripts/readme_table.py

README quotes what stands in results/ and nothing else; a test fails where the two differ.
"""

import re
import sys
from pathlib import Path
from typing import Any

from bsexp import results
from bsexp.report import tables

ROOT = Path(__file__).parent.parent
STUDY = Path("results/sharp_minima")
ALL_EXAMPLES = Path("results/sharp_minima-all_examples")
MARKED = re.compile(
    r"(<!-- results/sharp_minima: .*? -->\n).*?(<!-- end -->)", re.DOTALL
)
QUOTED = (
    "Accuracy",
    "Sharpness φ",
    "Hessian",
    "Distance",
)  # sections of the report's table


def main() -> int:
    """Replace what stands between the markers."""
    file = ROOT / "README.md"
    file.write_text(with_table(file.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def with_table(text: str) -> str:
    """Return README's text with the table as results/ has it."""
    return MARKED.sub(lambda found: found[1] + quotation() + found[2], text)


def quotation() -> str:
    """Return the answer, the table and where it was computed, in Markdown."""
    folder = ROOT / STUDY
    summary, study, environment = (
        results.read_json(folder / f"{name}.json")
        for name in ("summary", "study", "env")
    )
    minutes = environment["seconds"]["total"] / 60
    where = (
        f"{environment['cpu']}, {environment['cores']} cores, jax {environment['packages']['jax']}, "
        f"{minutes:.0f} minutes in all; `{study['command']}`"
    )
    parts = [
        summary["answer"],
        _table(summary),
        f"Mean ± standard deviation over n seeds. {where}.",
        _on_all_examples(),
    ]
    return "\n" + "\n\n".join(parts) + "\n\n"


def _on_all_examples() -> str:
    """Return what the paper's search finds in mode batch when the loss is over the whole training set."""
    groups = results.read_json(ROOT / ALL_EXAMPLES / "summary.json")["groups"]
    name = "sharpness/full/1e-3/batch"

    def quoted(group: str, measure: str) -> str:
        entry = groups[group][measure]
        return tables.spread(entry["mean"], entry["std"])

    return (
        "**How far the agreement goes.** In mode batch the table's φ is that of 10 000 of the 60 000 training examples. "
        f"On all of them ([{ALL_EXAMPLES}]({ALL_EXAMPLES}), ε = 1e-3, the same weights) the paper's search finds "
        f"{quoted('SB', f'{name}/lbfgsb')} at SB and {quoted('LB', f'{name}/lbfgsb')} at LB, where sign ascent finds "
        f"{quoted('SB', name)} and {quoted('LB', name)}: the LB points are so nearly stationary that ten iterations of "
        "L-BFGS-B hardly leave them. That is a failed search and not a flat minimum, and it is why bsexp runs two."
    )


def _table(summary: dict[str, Any]) -> str:
    groups = summary["groups"]
    head = ["", "batch norm"]
    for name, group in groups.items():
        head += [f"{name}, B = {group['batch_size']:,} (n)", "paper"]
    lines = [head, ["---"] * len(head)]
    for row in tables.rows(summary):
        if row.section in QUOTED:
            cells = [
                text
                for cell in row.cells.values()
                for text in (f"{cell.value} ({cell.n})", cell.paper)
            ]
            lines.append([row.label, row.mode, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())

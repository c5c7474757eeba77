"""What keeps our cells from being the paper's measurement, said from the numbers of the studies."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bsexp import keskar2017
from bsexp.report.folder import Study, number, section
from bsexp.report.verdicts import GROUPS

NEAR = 1.0  # points of training accuracy below the paper's up to which an end counts as its minimum
SUBSPACES = (
    "The columns of Table 4's random subspaces are standard normal. The paper does not say how it scales them; with columns of "
    "length 1, φ at F1's LB minimum is of the order of 1e-5, where the paper has 9. So the scale was chosen by the paper's own numbers."
)


def caveats(networks: Mapping[str, tuple[Study, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield a sentence for each difference.

    Args:
        networks: network of the paper -> its study, and the summary of it.
    """
    parts = [
        f"{network}: {few:,.0f} of {whole:,.0f}"
        for network, (study, _) in networks.items()
        for few, whole in _examples(study)
        if few < whole
    ]
    if parts:
        yield f"In mode batch our φ is that of some training examples ({'; '.join(parts)}), the paper's that of all."
    for network, (_, summary) in networks.items():
        yield from _unfinished(network, summary)
    if any(
        "/subspace/" in name for _, each in networks.values() for name in _names(each)
    ):
        yield SUBSPACES


def _examples(study: Study) -> Iterator[tuple[float, float]]:
    """Yield the fewest examples of a φ in mode batch, and those of the training set, where both are known."""
    few, whole = (
        {
            number(section(record, "detail").get(key))
            for run in study.runs
            for name, record in run.measurements.items()
            if re.fullmatch(pattern, name)
        }
        for pattern, key in (
            (r"sharpness/full/.*/batch", "examples"),
            (r"evaluation/batch", "train"),
        )
    )
    if few and whole and all(map(math.isfinite, few | whole)):
        yield min(few), max(whole)


def _unfinished(network: str, summary: Mapping[str, Any]) -> Iterator[str]:
    papers = keskar2017.values(network)
    reached, published = {}, {}
    for group in GROUPS:
        entry = section(section(summary["groups"], group), "train_accuracy")
        if math.isfinite(mean := number(entry.get("mean"))):
            reached[group] = 100 * mean
            published[group] = 100 * papers[group]["train_accuracy"][0]
    if any(published[group] - reached[group] > NEAR for group in reached):
        ours = ", ".join(f"{reached[group]:.1f} % ({group})" for group in reached)
        theirs = ", ".join(f"{published[group]:.2f}" for group in reached)
        yield (
            f"{network} ended at a training accuracy of {ours}, where the paper has {theirs}: it was not trained to the paper's "
            "minima, and its φ are those of points on the way there."
        )


def _names(summary: Mapping[str, Any]) -> Iterator[str]:
    for group in summary["groups"].values():
        yield from group

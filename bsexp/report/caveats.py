"""What keeps our cells from being the paper's measurement, said from the numbers of the studies."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bsexp import keskar2017
from bsexp.report.folder import Study, number, section
from bsexp.report.measures import MODES, PAPERS_MODE, PAPERS_SEARCH, in_mode
from bsexp.report.verdicts import GROUPS

NEAR = 1.0  # points of training accuracy below the paper's up to which an end counts as its minimum
DIMENSION = 100  # of the random subspaces of Table 4
LOSS_HANDED = (
    "L-BFGS-B was handed the loss and not φ. Its first step is as long as the gradient, which at a minimum is 100 times shorter for "
    "the loss, so that it may have stayed where φ would have led it on. The paper does not say which of the two it was."
)
SHALLOW = ("C1", "C3")
STRIDE = (
    "is the paper's text, whose convolutions have stride 2. In the authors' released code, config.model.variant=released, they have stride "
    "1, and the network six times as many parameters."
)
SUBSPACES = "The columns of Table 4's random subspaces are standard normal. The paper does not say how it scales them."


def caveats(networks: Mapping[str, tuple[Study, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield a sentence for each difference.

    Args:
        networks: network of the paper -> its study, and the summary of it.
    """
    parts = [
        f"in mode {mode} ({'; '.join(of_mode)})"
        for mode in MODES
        if (of_mode := list(_parts_of_the_set(networks, mode)))
    ]
    if parts:
        yield f"Our φ is that of some training examples {', '.join(parts)}, the paper's that of all."
    handed = [name for name, (study, _) in networks.items() if _handed_the_loss(study)]
    if handed:
        yield f"{', '.join(handed)}: {LOSS_HANDED}"
    for network, (study, summary) in networks.items():
        yield from _unfinished(network, summary)
        if network in SHALLOW and _variant(study) == "paper":
            yield f"{network} {STRIDE}"
    if any(
        "/subspace/" in name for _, each in networks.values() for name in _names(each)
    ):
        yield SUBSPACES + "".join(_with_unit_columns(networks))


def _handed_the_loss(study: Study) -> bool:
    """Say whether L-BFGS-B maximised the loss; measurements that say nothing are older than the choice."""
    return any(
        section(record, "settings").get("lbfgsb_maximises", "loss") == "loss"
        for run in study.runs
        for name, record in run.measurements.items()
        if name.startswith("sharpness/")
    )


def _variant(study: Study) -> Any:
    config = section(study.record, "config")
    return section(config, "model").get("variant")


def _parts_of_the_set(
    networks: Mapping[str, tuple[Study, Mapping[str, Any]]], mode: str
) -> Iterator[str]:
    for network, (study, _) in networks.items():
        for few, whole in _examples(study, mode):
            if few < whole:
                yield f"{network}: {few:,.0f} of {whole:,.0f}"


def _with_unit_columns(
    networks: Mapping[str, tuple[Study, Mapping[str, Any]]],
) -> Iterator[str]:
    """Yield what φ could be if the columns had length 1: there the box ends √dimension epsilon from the minimum."""
    for network, (_, summary) in networks.items():
        largest = mean(summary, "LB", f"hessian/lambda_max/{PAPERS_MODE}")
        papers, _ = keskar2017.values(network)["LB"][
            f"sharpness/subspace/1e-3/{PAPERS_MODE}/{PAPERS_SEARCH}"
        ]
        if largest > 0:
            rise = largest * DIMENSION * 1e-3**2 / 2
            yield (
                f" With columns of length 1 the box of ε = 1e-3 would end {math.sqrt(DIMENSION) * 1e-3:g} from the minimum; "
                f"at {network}'s LB, λ_max {largest:.2g} in mode {PAPERS_MODE}, φ would be about {100 * rise:.2g} at most, where the paper has {papers:g}. "
                "So the scale was chosen by the paper's own numbers."
            )
            return


def _examples(study: Study, mode: str) -> Iterator[tuple[float, float]]:
    """Yield the fewest examples of a φ in a mode, and those of the training set, where both are known."""
    few, whole = (
        {
            number(section(record, "detail").get(key))
            for run in study.runs
            for name, record in run.measurements.items()
            if re.fullmatch(pattern, name)
        }
        for pattern, key in (
            (rf"sharpness/full/.*/{mode}", "examples"),
            (rf"evaluation/{mode}", "train"),
        )
    )
    if few and whole and all(map(math.isfinite, few | whole)):
        yield min(few), max(whole)


def _unfinished(network: str, summary: Mapping[str, Any]) -> Iterator[str]:
    papers = keskar2017.values(network)
    training, test = (
        in_mode(f"{split}_accuracy", PAPERS_MODE) for split in ("train", "test")
    )
    reached = {group: mean(summary, group, training) for group in GROUPS}
    published = {group: papers[group][training][0] for group in GROUPS}
    if any(100 * (published[each] - reached[each]) > NEAR for each in GROUPS):
        ours = _percent(reached, 1, " %")
        gaps = {group: reached[group] - mean(summary, group, test) for group in GROUPS}
        yield (
            f"{network} ended at a training accuracy of {ours} in mode {PAPERS_MODE}, where the paper has {_percent(published, 2)}: it was "
            "not trained to the paper's minima. Its φ are those of points on the way there, and a lower test accuracy may be that of "
            f"incomplete training: training less test accuracy is {_percent(gaps, 1, ' points')}."
        )


def _percent(values: Mapping[str, float], decimals: int, unit: str = "") -> str:
    return ", ".join(
        f"{100 * value:.{decimals}f}{unit} ({group})"
        for group, value in values.items()
        if math.isfinite(value)
    )


def mean(summary: Mapping[str, Any], group: str, name: str) -> float:
    """Return a group's mean of a measure in a summary; NaN where it has none."""
    return number(section(section(section(summary, "groups"), group), name).get("mean"))


def _names(summary: Mapping[str, Any]) -> Iterator[str]:
    for group in summary["groups"].values():
        yield from group

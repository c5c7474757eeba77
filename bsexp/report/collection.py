"""The page of several studies: the paper's tables with ours beside them, its figures, and every study's answer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from markupsafe import Markup

from bsexp import keskar2017, results
from bsexp.report import (
    caveats,
    counting,
    folder,
    modes,
    page,
    summary,
    tables,
    verdicts,
)
from bsexp.report.folder import number, section
from bsexp.report.vector import inline

# Figure of the paper, its networks, what it shows, and the figure of ours. The first concept sketch has no data.
FIGURES = (
    (2, "F2 and C1", "Training and test accuracy per epoch", "training_curves"),
    (3, "all six networks", "The straight line between both minima", "linear_path"),
    (4, "F2 and C1", "Accuracy and sharpness against the batch size", "batch_sizes"),
    (5, "F2 and C1", "Large batches started from small batches' weights", "warm_start"),
    (6, "F2 and C1", "Sharpness against the loss along training", "sharpness_and_loss"),
    (7, "all six networks", "The arc between both minima", "arc_path"),
)
OF_NETWORKS = (2, 3, 7)  # shown for the networks of the paper's tables only
TITLES = {
    2: "Table 2: accuracy",
    3: "Table 3: sharpness φ in the full space",
    4: "Table 4: sharpness φ in a random subspace of dimension 100",
}
DISTANCE = "distance_from_start"
ACCELERATOR = 10e12  # floating-point operations a second


@dataclass(frozen=True)
class Member:
    """One study of a collection: what collection.json says of it, and its folder as read where it has results."""

    name: str
    folder: str
    reason: str
    estimate: Mapping[str, Any]
    study: folder.Study | None
    numbers: Mapping[str, Any]

    @property
    def network(self) -> str:
        """The network of the paper whose row of the tables this study is; empty for others."""
        experiment, _, argument = self.name.partition(":")
        known = experiment == "sharp_minima" and argument in keskar2017.NETWORKS
        return argument if known and self._on_its_data(argument) else ""

    def _on_its_data(self, network: str) -> bool:
        """Say whether nothing speaks against the data being the paper's."""
        if self.study is None:
            return True
        published = keskar2017.NETWORKS[network].data
        data = section(section(self.study.record, "config"), "data")
        return not self.study.synthetic and data.get("name", published) == published

    @property
    def title(self) -> str:
        """The name, with the data sets that are synthetic called so."""
        synthetic = self.study.synthetic if self.study else []
        return " ".join([self.name, *(f"({folder.STAND_IN}: {n})" for n in synthetic)])

    @property
    def needs(self) -> str:
        """The time that the study would take, in words; empty where it is not known."""
        if not self.estimate:
            return ""
        flops, runs = (number(self.estimate.get(key)) for key in ("flops", "runs"))
        one = flops / ACCELERATOR
        machine = section(self.estimate, "machine")
        here = flops / number(machine.get("rate"))
        return (
            f"{flops:.1e} floating-point operations in {runs:.0f} runs: {page.duration(one)} on one accelerator, "
            f"{page.duration(one / min(8, runs))} on eight, {page.duration(here)} on {machine.get('cpu')}, {page.cores(machine.get('cores'))}"
        )


def build(workdir: str | PathLike) -> str:
    """Write report.html of a collection and return its answer; the same folder gives the same bytes.

    Args:
        workdir: its folder, with collection.json and a folder for each study that has results.

    Raises:
        FileNotFoundError: there is no collection.json.
    """
    root = Path(workdir)
    record = results.read_json(
        root / results.COLLECTION, "name", "question", "source", "studies"
    )
    members = read(root)
    rows = paper_rows(members)
    answer = _answer(rows, members)
    html = page.templates().get_template("collection.html")
    (root / "report.html").write_text(
        html.render(
            record=record,
            answer=answer,
            members=members,
            tables={TITLES[n]: _by_network(rows, n) for n in TITLES},
            rule=verdicts.RULE,
            scores=list(scores(rows)),
            corrected=counting.corrected(verdicts.one_a_cell(rows)),
            distances=distances(members),
            caveats=list(differences(members)),
            modes=_modes(rows, members),
            beyond={each.title: rows for each in members if (rows := _beyond(each))},
            figures=list(_figures(root, members)),
            accelerator=f"{ACCELERATOR / 1e12:g}",
            links={each.name: f"{each.folder}/report.html" for each in members},
            facts={each.name: dict(_facts(each)) for each in members if each.study},
        ),
        encoding="utf-8",
    )
    return answer


def paper_rows(members: Sequence[Member]) -> list[verdicts.Row]:
    """Return the rows of the paper's tables for the networks that a collection names."""
    by_network = {each.network: each for each in members}
    return [
        row
        for network in keskar2017.NETWORKS
        if network in by_network
        for row in verdicts.rows(network, by_network[network].numbers)
    ]


def read(workdir: str | PathLike) -> list[Member]:
    """Read a collection's studies as they are."""
    root = Path(workdir)
    record = results.read_json(root / results.COLLECTION, "studies")
    return [_member(root, entry) for entry in record["studies"]]


def _member(root: Path, entry: Mapping[str, Any]) -> Member:
    place = root / str(entry["folder"])
    there = (place / "study.json").exists()
    return Member(
        entry["name"],
        entry["folder"],
        str(entry.get("reason") or ""),
        section(entry, "estimate"),
        folder.read(place) if there else None,
        summary.summarise(place) if there else {},
    )


def _answer(rows: Sequence[verdicts.Row], members: Sequence[Member]) -> str:
    done = sum(
        each.study is not None and any(run.measurements for run in each.study.runs)
        for each in members
    )
    told = f"{done} of {len(members)} studies have results here."
    if not rows:
        return told
    closest = verdicts.one_a_cell(rows)
    counted = counting.counts_by_network(closest, lengths(members))
    return f"Of {len(closest)} pairs of cells of Tables 2 to 4: {counted}. {told}"


def lengths(members: Sequence[Member]) -> dict[str, str]:
    """Say how long and from how many seeds each network of the paper was trained here."""
    return {
        each.network: f"{_epochs(each.study)}, {_seeds(each.study)}"
        for each in members
        if each.network and each.study
    }


def _epochs(study: folder.Study) -> str:
    train = section(section(study.record, "config"), "train")
    return f"{train.get('epochs', 'an unknown number of')} epochs"


def _seeds(study: folder.Study) -> str:
    total = len({run.seed for run in study.runs})
    return f"{_measured(study)} seed{'' if total == 1 else 's'}"


def _measured(study: folder.Study) -> str:
    """Count the seeds of which every group's run has been measured; of how many, where it is not all."""
    planned = {run.seed for run in study.runs}
    whole = planned - {run.seed for run in study.runs if not run.measurements}
    return tables.counted(len(whole), len(planned))


def _modes(rows: Sequence[verdicts.Row], members: Sequence[Member]) -> str:
    numbers = {each.network: each.numbers for each in members if each.network}
    return f"{modes.of_numbers(numbers)} {modes.of_verdicts(rows)}"


def differences(members: Sequence[Member]) -> Iterator[str]:
    """Yield what keeps the networks' cells from being the paper's measurement."""
    there = (each for each in members if each.network and each.study)
    return caveats.caveats(
        {each.network: (each.study, each.numbers) for each in there if each.study}
    )


def distances(members: Sequence[Member]) -> str:
    """Say how far from the start SB ends, in units of LB; empty where no network of the paper has both."""
    found = []
    for member in members:
        small, large = (
            caveats.mean(member.numbers, group, DISTANCE) for group in verdicts.GROUPS
        )
        if member.network and small > 0 and large > 0:
            found.append(f"{small / large:.2g} ({member.network})")
    low, high = keskar2017.DISTANCES
    return (
        f"The paper finds SB between {low} and {high} times as far from the start as LB; here the ratio of the means is {', '.join(found)}."
        if found
        else ""
    )


def scores(rows: Sequence[verdicts.Row]) -> Iterator[str]:
    """Yield the score of each way of measuring, accuracies apart from sharpness."""
    ways = dict.fromkeys((row.mode, row.search) for row in rows)
    for mode, search in sorted(ways, key=lambda way: way[1] != ""):
        found = [
            row
            for row in rows
            if (row.mode, row.search) == (mode, search)
            and row.verdict != verdicts.NOT_RUN
        ]
        if found:
            what = f"φ, {found[0].way}" if search else "accuracy"
            yield f"{what}, batch norm {mode}: {counting.counts(found)}."


def _by_network(
    rows: Sequence[verdicts.Row], table: int
) -> dict[str, list[verdicts.Row]]:
    found: dict[str, list[verdicts.Row]] = {}
    for row in rows:
        if row.table == table:
            found.setdefault(row.network, []).append(row)
    return found


def _beyond(member: Member) -> list[verdicts.Row]:
    """Return the rows of a study of SB and LB that is no row of the paper's tables."""
    pair = member.study.comparison if member.study else None
    ours = member.name.startswith("sharp_minima:") and not member.network
    if pair != verdicts.GROUPS or not ours:
        return []
    return list(verdicts.rows_beyond(member.numbers, member.title))


def _figures(root: Path, members: Sequence[Member]) -> Iterator[dict[str, Any]]:
    """Yield the figures that the studies drew, by the paper's number."""
    for at, papers, caption, name in FIGURES:
        for i, member in enumerate(members):
            file = root / member.folder / "figures" / f"{name}.svg"
            wanted = member.network or at not in OF_NETWORKS
            if member.study and wanted and file.exists():
                title = f"{caption}: {member.title}, {_subject(member.study)}"
                svg = inline(file.read_text(encoding="utf-8"), f"f{at}-{i}", title)
                # ours and free of scripts, as on a study's own page
                drawn = Markup(svg)  # noqa: S704
                yield {
                    "number": at,
                    "papers": papers,
                    "title": title,
                    "svg": drawn,
                    "id": f"f{at}-{i}",
                }


def _subject(study: folder.Study) -> str:
    """Say what a study trains: network, data set and seeds."""
    settings = section(study.record, "config")
    network, data = (
        section(settings, key).get("name", "unknown") for key in ("model", "data")
    )
    return f"{network} on {data}, n = {_measured(study)}"


def _facts(member: Member) -> Iterator[tuple[str, str]]:
    study = member.study
    if study is None:
        return
    env = study.env
    yield "runs", str(len(study.runs))
    yield "time", page.duration(number(section(env, "seconds").get("total")))
    yield (
        "processor",
        f"{env.get('cpu', 'unknown')}, {page.cores(env.get('cores', '?'))}",
    )
    yield "finished", str(study.record.get("finished") or "not yet")

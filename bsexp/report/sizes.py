"""Which studies are curves over the batch size: groups that differ in it, and in what is chosen for it."""

from collections.abc import Mapping

from bsexp.report.folder import Study, section

FEWEST = 3  # sizes that make a curve
# Fields that change where and how fast a run is computed: the ones that do not enter its name.
WITHOUT_NUMBERS = (
    *("batch.microbatch", "data.dir", "data.streaming", "data.workers"),
    *("train.checkpoint_every", "train.steps_per_dispatch"),
    *("execution.engine", "execution.population", "execution.data"),
    "execution.deterministic_reduction",
)
# Fields that are chosen for a batch size.
TUNED = (
    *("optimizer.learning_rate", "schedule.warmup", "scaling.rule"),
    *("train.epochs", "train.steps", "train.examples", "train.evaluations"),
)


def differ_in_size_alone(study: Study) -> bool:
    """Say whether groups of at least three batch sizes differ in nothing but that, and what is chosen for it."""
    sizes = {run.batch_size for run in study.runs}
    alone = _varied(study) - {*WITHOUT_NUMBERS, *TUNED} == {"batch.size"}
    return alone and len(sizes) >= FEWEST


def one_group_a_size(study: Study) -> bool:
    """Say whether every batch size has one group."""
    return len({run.batch_size for run in study.runs}) == len(study.groups)


def tuned_for_size(study: Study) -> list[str]:
    """Return the fields beside the batch size in which groups differ, of those that are chosen for it."""
    return sorted(_varied(study) & {*TUNED})


def tried_at_a_size(study: Study) -> list[str]:
    """Return the fields that are chosen for a batch size in which groups of the same one differ."""
    settings = section(section(study.record, "config"), "groups")
    found: dict[tuple[int, str], set[str]] = {}
    for name, runs in study.groups.items():
        for field in TUNED:
            part, _, key = field.partition(".")
            value = repr(section(section(settings, name), part).get(key))
            found.setdefault((runs[0].batch_size, field), set()).add(value)
    return sorted({field for (_, field), values in found.items() if len(values) > 1})


def listed(sizes: list[int]) -> str:
    """Write batch sizes, or other whole numbers, in words: 16, 64 and 256."""
    *first, last = [f"{size:,}" for size in sizes]
    return f"{', '.join(first)} and {last}" if first else last


def _varied(study: Study) -> set[str]:
    """Return the fields that groups set."""
    groups = section(section(study.record, "config"), "groups")
    return {
        f"{name}.{field}"
        for group in groups.values()
        for name, fields in (group.items() if isinstance(group, Mapping) else ())
        for field in (fields if isinstance(fields, Mapping) else [""])
    }

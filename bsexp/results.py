"""The public results format: where files lie, strict JSON, and a DataFrame of all measures.

A study's folder holds::

    study.json  env.json  summary.json  report.html  figures/
    runs/<name>-<8 hex>/  config.json env.json metrics.jsonl measurements.json status.json checkpoints/ snapshots/

measurements.json has what study.json asks for, and under "aside" what an earlier configuration of the folder asked for.

A collection's folder holds collection.json, report.html and the folder of each study.

JSON is strict: a number that is not finite is written as null, and a sibling key
``<key>_flag`` says which one it was ("nan", "inf" or "-inf"; for lists, index -> flag).
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

SCHEMA = 1
CURVES = "metrics.jsonl"  # a row an evaluation
CHECKPOINTS = (
    "checkpoints"  # states to go on from, by the number of updates before them
)
SNAPSHOTS = "snapshots"  # states to be measured, by the number of epochs before them
COLLECTION = "collection.json"


# What these keys hold wherever they stand in a file; of others it is enough that they are there.
_KINDS = {
    "schema": int,
    "config": dict,
    "runs": list,
    "studies": list,
    "seconds": dict,
    "measurements": dict,
    "along": dict,
    "aside": list,
    "state": str,
}
_LABELS = ("run", "group", "seed", "batch_size")
_ASIDE = "move it aside to go on without it"


class BrokenFileError(ValueError):
    """A file of results is not what it should be."""


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one strict JSON file so that a reader sees the old or the new one, never a part."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(
        json.dumps(strict(value), indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )
    temporary.replace(path)


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """Read one JSON object that has ``keys``; BrokenFileError names the file when it is something else, or of a later format."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BrokenFileError(
            f"{path} is not valid JSON ({error}); {_ASIDE}"
        ) from error
    if not _has(content, *keys):
        raise BrokenFileError(
            f"{path} is not an object with the keys {', '.join(keys)}; {_ASIDE}"
        )
    for key, kind in _KINDS.items():
        if key in content and not isinstance(content[key], kind):
            raise BrokenFileError(
                f"{path} has something else than expected under {key!r}; {_ASIDE}"
            )
    if content.get("schema", SCHEMA) > SCHEMA:
        raise BrokenFileError(
            f"{path} has the format {content['schema']} of a later bsexp; this one reads {SCHEMA}"
        )
    return content


def _has(value: Any, *keys: str) -> bool:
    return isinstance(value, Mapping) and all(key in value for key in keys)


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append one row to a JSON-lines file and hand it to the operating system at once."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(strict(row), allow_nan=False) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    try:
        rows = [json.loads(line) for line in lines[:-1]]
    except ValueError as error:
        raise BrokenFileError(
            f"{path} has a row that is not valid JSON ({error}); {_ASIDE}"
        ) from error
    if not all(_has(row, "epoch", "step") for row in rows):
        raise BrokenFileError(
            f"{path} has a row that is not an object with the keys epoch, step; {_ASIDE}"
        )
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Replace a JSON-lines file by ``rows``."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(
        "".join(json.dumps(strict(row), allow_nan=False) + "\n" for row in rows),
        encoding="utf-8",
    )
    temporary.replace(path)


def strict(value: Any) -> Any:
    """Replace every number that is not finite by None and put a flag beside it."""
    if isinstance(value, Mapping):
        return dict(_strict_items(value))
    if isinstance(value, list | tuple):
        return [None if _flag(item) else strict(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def _strict_items(mapping: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if flag := _flag(value):
            yield key, None
            yield f"{key}_flag", flag
            continue
        yield key, strict(value)
        if isinstance(value, list | tuple):
            flags = {str(i): _flag(item) for i, item in enumerate(value) if _flag(item)}
            if flags:
                yield f"{key}_flag", flags


def _flag(value: Any) -> str | None:
    if not isinstance(value, float) or math.isfinite(value):
        return None
    return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")


def load(path: str | os.PathLike) -> pd.DataFrame:
    """Load every measure of a study as one tidy DataFrame.

    Args:
        path: a study's folder, the one that holds study.json.

    Returns:
        One row per run, point and measure with the columns run, group, seed, batch_size, measure,
        value (float; NaN where the measure was not finite) and epoch: <NA> at the end of training,
        else the number of epochs before the point. Measures carry the units of their names:
        accuracies are fractions, sharpness is 100 x the relative rise of the loss.

    Raises:
        FileNotFoundError: there is no study.json in ``path``.
    """
    rows = [
        {
            **_labels(run),
            "measure": measure,
            "value": math.nan if value is None else value,
            "epoch": epoch,
        }
        for run in _runs(path)
        for epoch, records in points(run["folder"]).items()
        for record in records.values()
        for measure, value in record["values"].items()
        if not measure.endswith("_flag")
    ]
    frame = pd.DataFrame(rows, columns=[*_LABELS, "measure", "value", "epoch"])
    # Of a study without measurements too.
    return frame.astype(
        {"seed": int, "batch_size": int, "value": float, "epoch": "Int64"}
    )


def load_metrics(path: str | os.PathLike) -> pd.DataFrame:
    """Load the training curves of a study: one row per run and evaluation, labelled as in ``load``."""
    rows = [
        {**_labels(run), **row}
        for run in _runs(path)
        for row in read_rows(run["folder"] / CURVES)
    ]
    return pd.DataFrame(rows)


def data_digest(folder: Path, name: str) -> str:
    """Return the digest of the data set of that name with which a run was computed; "" where it is not written down."""
    try:
        return str(read_json(folder / "env.json")["data"][name]["digest"])
    except (OSError, BrokenFileError, LookupError, TypeError):
        return ""


def has_weights(folder: Path) -> bool:
    """Say whether a run's folder holds a checkpoint, of any step."""
    return bool(checkpoint_steps(folder))


def checkpoint_steps(folder: Path) -> list[int]:
    """List the updates after which a run's folder holds a checkpoint."""
    return _numbers(folder / CHECKPOINTS)


def kept_epochs(folder: Path) -> list[int]:
    """List the epochs after which a run's folder holds a snapshot; 0, the start, needs none."""
    return _numbers(folder / SNAPSHOTS)


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def is_trained(status: Mapping[str, Any]) -> bool:
    """Say whether a run was trained to its end, by its status.json; it may have failed when it was measured."""
    return status["state"] in ("trained", "done") or bool(status.get("trained"))


def end(folder: Path) -> float:
    """Return the epochs that a run which was trained to its end has; infinity for one that may go on."""
    rows, status = read_rows(folder / CURVES), folder / "status.json"
    ended = status.exists() and is_trained(read_json(status, "state"))
    return rows[-1]["epoch"] if ended and rows else math.inf


def finished_run(path: str | os.PathLike) -> dict[str, Any]:
    """Read the configuration of a finished run whose weights are there.

    Args:
        path: a run's folder, such as results/<study>/runs/<name>.

    Raises:
        ValueError: there is no run, it has not been trained to its end, or its weights are gone.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise ValueError(
            "no run is there; a run is a folder such as results/<study>/runs/<name>"
        )
    status = read_json(folder / "status.json", "state")
    if not is_trained(status):
        raise ValueError(f"the run has not finished; its state is {status['state']}")
    if not has_weights(folder):
        raise ValueError(
            "its checkpoints are not there (committed results have none); train it again in another --workdir"
        )
    keys = ("run", "group", "seed", "data", "model", "batch", "optimizer", "train")
    return read_json(folder / "config.json", *keys)


def measurements(folder: Path) -> dict[str, dict[str, Any]]:
    """Read what was measured at a run's end, name -> {"settings", "values", "detail", "seconds"}."""
    return points(folder)[None]


def points(folder: Path) -> dict[int | None, dict[str, dict[str, Any]]]:
    """Read a run's measurements as `measurements` gives them, by epochs before the point; None: the end."""
    file = folder / "measurements.json"
    if not file.exists():
        return {None: {}}
    content = read_json(file, "measurements")
    along = content.get("along", {})
    found = {
        None: content["measurements"],
        **{int(epoch): along[epoch] for epoch in along if epoch.isdecimal()},
    }
    whole = all(
        _has(records)
        and all(_has(each, "settings", "values") for each in records.values())
        for records in found.values()
    )
    if not whole:
        raise BrokenFileError(
            f"{file} has a measurement without settings or values; {_ASIDE}"
        )
    return found


def aside(folder: Path) -> list[dict[str, Any]]:
    """Read the measurements that the study of now does not ask for: with "epoch" and "name", and as in `measurements`."""
    file = folder / "measurements.json"
    return read_json(file, "measurements").get("aside", []) if file.exists() else []


def write_points(
    folder: Path,
    found: Mapping[int | None, Mapping[str, Any]],
    others: list[dict[str, Any]] | None = None,
) -> None:
    """Write a run's measurements, as `points` gives them, and those `aside`; None: as they are."""
    along = {str(epoch): found[epoch] for epoch in sorted(found.keys() - {None})}
    parts = {"along": along, "aside": aside(folder) if others is None else others}
    write_json(
        folder / "measurements.json",
        {
            "schema": SCHEMA,
            "measurements": found[None],
            **{name: part for name, part in parts.items() if part},
        },
    )


def read_study(path: str | os.PathLike) -> dict[str, Any]:
    """Read study.json of a study's folder; FileNotFoundError where there is none, BrokenFileError as `read_json`."""
    file = Path(path) / "study.json"
    if not file.exists():
        raise FileNotFoundError(f"no study in {path}: it has no study.json")
    record = read_json(file, "runs")
    if not all(_has(run, *_LABELS) for run in record["runs"]):
        raise BrokenFileError(
            f"{file} has a run without {', '.join(_LABELS)}; {_ASIDE}"
        )
    return record


def _runs(path: str | os.PathLike) -> list[dict[str, Any]]:
    folder = Path(path) / "runs"
    return [{**run, "folder": folder / run["run"]} for run in read_study(path)["runs"]]


def _labels(run: Mapping[str, Any]) -> dict[str, Any]:
    return {key: run[key] for key in _LABELS}

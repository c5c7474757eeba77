"""The command line: words in, an experiment's settings and what to do with them out."""

import dataclasses
import importlib.util
import re
import shlex
import textwrap
import traceback
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from bsexp import config, conversion, door

USAGE = """\
usage: python -m bsexp.main --config=FILE[:ARG] [--config.FIELD=VALUE ...] [--workdir=DIR]
                            [--dry_run] [--print_config] [--help]
                            [--coordinator=HOST:PORT --processes=N --process=I]

  --config=FILE[:ARG]     the experiment, such as experiments/sharp_minima.py or ...py:smoke
  --config.FIELD=VALUE    set one field of it, such as --config.train.epochs=5
  --config.groups.NAME.FIELD=VALUE
                          set it for one group, such as LB; another NAME adds a group
  --workdir=DIR           folder of the results; default results/<experiment>[-<arg>]
  --dry_run               print the runs with steps, FLOPs, memory and time; train nothing
  --print_config          print every field with its value; train nothing
  --coordinator, --processes, --process
                          train in N processes: the address of the first, how many, and which this is, from 0; under
                          Slurm, Open MPI, Kubernetes and on TPUs they are found without
  --help                  this page

Fields, with their defaults (an experiment may set others):
"""
SWITCHES = ("dry_run", "print_config", "help")
PLACE = ("coordinator", "processes", "process")
VALUED = ("config", "workdir", *PLACE)


class Place(NamedTuple):
    """Where a process stands among several.

    Attributes:
        coordinator: HOST:PORT of process 0.
        processes: how many there are.
        process: which one this is, from 0.
    """

    coordinator: str
    processes: int
    process: int


@dataclasses.dataclass(frozen=True)
class Command:
    """What the command line asks for."""

    experiment: Path | None
    argument: str
    overrides: tuple[tuple[str, str], ...]
    workdir: Path | None
    place: Place | None
    dry_run: bool
    print_config: bool
    help: bool


def parse(words: Sequence[str]) -> Command:
    """Read the command line; ConfigError lists every word that makes no sense."""
    values: dict[str, str] = {}
    overrides: list[tuple[str, str]] = []
    errors: list[str] = []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            errors.append(
                f"{word}: stray word; every argument is a flag, such as --config=FILE"
            )
        elif name in SWITCHES:
            values[name] = "on"
            errors += [f"{word}: takes no value"] if equals else []
        elif name not in VALUED and not name.startswith("config."):
            errors.append(
                f"{word}: unknown flag; {conversion.did_you_mean(name, (*VALUED, *SWITCHES, 'config.FIELD'))}"
            )
        else:
            if not equals and remaining and not remaining[0].startswith("--"):
                equals, value = "=", remaining.pop(0)
            if not value:
                errors.append(f"--{name}: needs a value")
            elif name in VALUED:
                values[name] = value
            else:
                overrides.append((name.removeprefix("config."), value))
    if "config" not in values and "help" not in values:
        errors.append(f"--config: missing; which experiment? {_experiments()}")
    place = _place({name: values[name] for name in PLACE if name in values}, errors)
    if errors:
        raise door.ConfigError(errors)
    file, _, argument = (
        values["config"].partition(":") if "config" in values else ("", "", "")
    )
    return Command(
        experiment=Path(file) if file else None,
        argument=argument,
        overrides=tuple(overrides),
        workdir=Path(values["workdir"]) if "workdir" in values else None,
        place=place,
        **{switch: switch in values for switch in SWITCHES},
    )


def _place(values: Mapping[str, str], errors: list[str]) -> Place | None:
    """Return where this process stands among several; None where the command line does not say."""
    if not values:
        return None
    found = len(errors)
    errors += [
        f"--{name}: missing beside --{next(iter(values))}"
        for name in PLACE
        if name not in values
    ]
    numbers = {
        name: _number(name, values[name], errors)
        for name in PLACE[1:]
        if name in values
    }
    address = values.get("coordinator", "")
    host, _, port = address.rpartition(":")
    if address and not (host and port.isdecimal()):
        errors.append(f"--coordinator={address}: must be HOST:PORT")
    if len(errors) > found:
        return None
    if not 0 <= numbers["process"] < numbers["processes"]:
        errors.append(
            f"--process={numbers['process']}: must be from 0 to {numbers['processes'] - 1}, below --processes"
        )
    return Place(address, **numbers)


def _number(name: str, text: str, errors: list[str]) -> int:
    if not text.isdecimal():
        errors.append(f"--{name}={text}: must be a whole number")
        return 0
    return int(text)


def load_settings(experiment: Path, argument: str) -> Mapping[str, Any]:
    """Run an experiment's ``get_config(argument)`` and return its settings as a mapping.

    Raises:
        ConfigError: the file is missing or broken, or it does not know the argument.
    """
    shown = f"--config={experiment}" + (f":{argument}" if argument else "")
    if not experiment.is_file():
        raise door.ConfigError([f"{shown}: no such file; {_experiments()}"])
    specification = importlib.util.spec_from_file_location(experiment.stem, experiment)
    if specification is None or specification.loader is None:
        raise door.ConfigError([f"{shown}: not a Python file"])
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
        settings = module.get_config(argument)
    except (Exception, SystemExit) as error:  # whatever a user's file raises is told
        said = f"{type(error).__name__}: {error}{_line(error, experiment)}"
        raise door.ConfigError([f"{shown}: {said}"]) from error
    if not hasattr(settings, "to_dict"):
        raise door.ConfigError(
            [f"{shown}: get_config must return an ml_collections.ConfigDict"]
        )
    return settings.to_dict()


def _line(error: BaseException, experiment: Path) -> str:
    """Say in which line of the experiment's file an error was raised; empty where it says so itself, or was raised elsewhere."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [each.lineno for each in frames if each.filename == str(experiment)]
    return f" (line {lines[-1]})" if lines else ""


def start_jax() -> None:
    """Import JAX, which reads its flags from the environment.

    Raises:
        ConfigError: one of them has a value that it cannot have.
    """
    try:
        importlib.import_module("jax")
    except ValueError as error:
        raise door.ConfigError([f"environment of JAX: {error}"]) from error


def default_workdir(experiment: Path, argument: str) -> Path:
    """Return results/<experiment>, with the argument behind it if there is one."""
    suffix = "-" + re.sub(r"[^\w.]+", "-", argument) if argument else ""
    return Path("results") / (experiment.stem + suffix)


def help_text() -> str:
    """Return the help page: usage, and every field with its meaning, unit and default."""
    return USAGE + "\n".join(
        _field_help(path, field)
        for path, field in conversion.valid_fields(config.Study)
    )


def _field_help(path: str, field: dataclasses.Field) -> str:
    default = (
        field.default_factory()
        if field.default is dataclasses.MISSING
        else field.default
    )
    unit = f" [{field.metadata['unit']}]" if field.metadata["unit"] else ""
    meaning = textwrap.fill(
        field.metadata["meaning"] + unit,
        100,
        initial_indent=" " * 6,
        subsequent_indent=" " * 6,
    )
    return f"  --{path}={default!r}\n{meaning}"


def print_config(plan: door.Plan, console: Console) -> None:
    """Print every field of a study with its value, one a line, as a shell takes it; not those that every group sets."""
    fields = [
        path.removeprefix("config.")
        for path, _ in conversion.valid_fields(config.Study)
    ]
    lines = [
        f"--config.{field}={_word(attrgetter(field)(plan.study))}"
        for field in fields
        if not door.overlaid(field, plan.study.groups)
    ]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _word(value: Any) -> str:
    """Write a value so that a shell hands it on: in quotes what it would take apart or off."""
    shown = repr(value)
    if not isinstance(value, str | tuple | dict):
        return shown
    if isinstance(value, str) and value and not set(value) & set("'\\"):
        return shown
    return shlex.quote(shown) if set(shown) & set('"$`\\') else f'"{shown}"'


def _experiments() -> str:
    files = sorted(str(file) for file in Path("experiments").glob("*.py"))
    return (
        "valid: " + ", ".join(files)
        if files
        else "run from the folder that holds experiments/"
    )

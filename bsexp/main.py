"""The command line: flags -> study -> report, nothing else."""

import functools
import logging
import shlex
import signal
import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from bsexp import bounds, command, door, huge_pages
from bsexp.training import interruption

LOG_WIDTH = 140  # a log has none of its own, and eighty columns break the table's rows


@interruption.kept()
def main(words: Sequence[str]) -> int:
    """Run one command and return its exit code: 0, 1 where a run failed, 2 for bad input, 128 + signal."""
    # Third-party libraries report their own doings at level INFO.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    try:
        asked = command.parse(words)
        if asked.help:
            page = command.help_text()
            console.print(page, markup=False, highlight=False, soft_wrap=True)
            return 0
        return _study(asked, words, console)
    except (door.ConfigError, bounds.FieldError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        # Before a study began, or a second Ctrl-C while it was saving its state.
        return 128 + signal.SIGINT


def _study(asked: command.Command, words: Sequence[str], console: Console) -> int:
    settings = command.load_settings(asked.experiment, asked.argument)
    command.start_jax()  # only for a command line that makes sense
    from bsexp import collection, compile_cache, dry_run, random_numbers, study  # noqa: PLC0415
    from bsexp.training import processes  # noqa: PLC0415

    compile_cache.enable()
    random_numbers.pin()
    processes.join(asked.place)
    folder = asked.workdir or command.default_workdir(asked.experiment, asked.argument)
    if "studies" in settings:
        start = functools.partial(collection.lead, settings, asked, folder, console)
        return _until_stopped(start, console)
    with processes.at_the_door():
        plan = door.open_study(settings, asked.overrides, study.catalogue())
    if asked.dry_run and processes.leads():
        dry_run.show(plan, folder, console)
    elif asked.print_config and processes.leads():
        command.print_config(plan, console)
    if asked.dry_run or asked.print_config:
        return 0
    name = asked.experiment.stem
    if processes.leads():
        line = f"python -m bsexp.main {shlex.join(words)}"
        start = functools.partial(study.lead, plan, name, line, folder, console)
    else:
        start = functools.partial(study.follow, plan, name, folder)
    return _until_stopped(start, console)


def _until_stopped(start: Callable[[], int], console: Console) -> int:
    try:
        return interruption.stoppable(start)
    except interruption.Interrupted as error:
        told = f"stopped by {error}; the same command goes on from here"
        console.print(told, markup=False)
        return 128 + error.signal


if __name__ == "__main__":
    huge_pages.ask()
    sys.exit(main(sys.argv[1:]))

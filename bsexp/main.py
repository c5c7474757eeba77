"""The command line: flags -> study -> report, nothing else."""

import logging
import shlex
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from rich.console import Console

from bsexp import command, door

LOG_WIDTH = 140


def main(words: Sequence[str]) -> int:
    """Run one command and return its exit code: 0, 1 where a run failed, 2 for bad input, 128 + signal."""
    # Third-party libraries report their own doings at level INFO; ours and theirs are heard from WARNING on.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    # A log has no width of its own: eighty columns would break the table's rows.
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    try:
        asked = command.parse(words)
        if asked.help:
            console.print(
                command.help_text(), markup=False, highlight=False, soft_wrap=True
            )
            return 0
        return _study(asked, words, console)
    except door.ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        # Before a study began, or a second Ctrl-C while it was saving its state.
        return 128 + signal.SIGINT


def _study(asked: command.Command, words: Sequence[str], console: Console) -> int:
    settings = command.load_settings(asked.experiment, asked.argument)
    from bsexp import dry_run, results, study, workdir  # noqa: PLC0415 - JAX starts only for a command line that makes sense
    from bsexp.training import interruption  # noqa: PLC0415

    plan = door.open_study(settings, asked.overrides, study.catalogue())
    if asked.print_config:
        console.print(
            command.config_text(plan.study),
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return 0
    if asked.dry_run:
        dry_run.show(plan, console)
        return 0

    def stop(number: int, _frame: FrameType | None) -> None:
        raise interruption.Interrupted(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    folder = asked.workdir or command.default_workdir(asked.experiment, asked.argument)
    line = f"python -m bsexp.main {shlex.join(words)}"
    try:
        return study.run(plan, asked.experiment.stem, line, folder, console)
    except (OSError, workdir.FolderError, results.BrokenFileError) as error:
        raise door.ConfigError([str(error)]) from error
    except interruption.Interrupted as error:
        console.print(
            f"stopped by {error}; the same command goes on from here", markup=False
        )
        return 128 + error.signal


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

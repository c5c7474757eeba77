"""Several processes that train together: how they find each other, and how the first one leads.

Process 0 runs the study: it decides what is trained, measures and writes results. The others wait for its messages and train
with it; each writes a part of the checkpoints, so all must see the same folder.
"""

import contextlib
import importlib.util
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

# JAX has no public way to wait for a message: a collective on CPU gives up after 30 s, and measuring takes longer.
from jax._src.distributed import global_state

from bsexp import bounds
from bsexp.training import footprint, interruption

WAIT = 1_000  # milliseconds, after which a waiting process looks whether it was interrupted
# Variables of the environment by which JAX is told its devices.
DEVICES = ("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES")


def launcher(variables: Mapping[str, str]) -> str:
    """Return the launcher that started this process as one of several, as JAX knows them; "" where none did.

    JAX finds the coordinator and the others by itself then. Open MPI from version 5 on is not among them.

    Args:
        variables: of the environment.
    """

    def several(name: str) -> bool:
        return int(variables.get(name, "1")) > 1

    if "SLURM_STEP_NODELIST" in variables and several("SLURM_NTASKS"):
        return "slurm"
    if "OMPI_MCA_orte_hnp_uri" in variables and several("OMPI_COMM_WORLD_SIZE"):
        return "ompi"
    if "KUBERNETES_SERVICE_HOST" in variables and "JOB_COMPLETION_INDEX" in variables:
        return "k8s"
    if "," in variables.get("TPU_WORKER_HOSTNAMES", "") or _on_tpu():
        return "tpu"
    return ""


def _on_tpu() -> bool:
    """Say whether this machine has TPUs; of its slice it may be one machine or the only one, JAX asks."""
    chips = [*Path("/dev").glob("accel*"), *Path("/dev").glob("vfio/[0-9]*")]
    return bool(chips) and importlib.util.find_spec("libtpu") is not None


def join(place: tuple[str, int, int] | None) -> None:
    """Join the other processes, those of the command line or those of the launcher; alone where there are none.

    Call it before anything is computed.

    Args:
        place: HOST:PORT of process 0, how many processes there are, and which this one is; None: ask the launcher.

    Raises:
        bounds.FieldError: they were not all there within five minutes, or their launcher does not say enough; or JAX finds
            no device.
    """
    if place is not None or launcher(os.environ):
        _find_each_other(place)
    try:
        jax.devices()
    # A RuntimeError, or an assertion of JAX's own where a platform is asked for that is not there.
    except (RuntimeError, AssertionError) as error:
        asked = [f"{name}={os.environ[name]}" for name in DEVICES if name in os.environ]
        said = str(error).partition("\n")[0]
        words = [*asked, "JAX finds no device", *filter(None, [said])]
        raise bounds.FieldError("devices", ": ".join(words)) from error


def _find_each_other(place: tuple[str, int, int] | None) -> None:
    try:
        jax.distributed.initialize(*(place or ()))
    except (ValueError, RuntimeError) as error:
        said = str(error).partition("\n")[0]
        raise bounds.FieldError(
            "coordinator",
            f"--coordinator: the processes did not find each other: {said}",
        ) from error


def leads() -> bool:
    """Say whether this process is the one that runs the study."""
    return jax.process_index() == 0


@contextlib.contextmanager
def at_the_door() -> Iterator[None]:
    """End all processes with exit code 2 where the configuration of one is refused, each with the reason; alone, raise as ever.

    All leave together: where one is gone JAX aborts the others, or lets them wait until they miss it, 100 seconds.
    """
    refusal = ""
    try:
        yield
    except ValueError as error:
        if jax.process_count() == 1:
            raise
        refusal = str(error)
    if jax.process_count() > 1:
        with together():
            refusals = _told_by_all("door", refusal)
        if any(refusals):
            of_others = [
                f"process {i}: {said}" for i, said in enumerate(refusals) if said
            ]
            sys.stderr.write(f"{refusal or '; '.join(of_others)}\n")
            sys.exit(2)


def check_agreement(said: str) -> None:
    """Check that all processes say the same of what they are about to train; alone, do nothing.

    Raises:
        bounds.FieldError: in every process, where one says something else.
    """
    if jax.process_count() == 1:
        return
    with together():
        found = _told_by_all("agreement", said)
    others = [str(i) for i, each in enumerate(found) if each != found[0]]
    if others:
        raise bounds.FieldError(
            "processes",
            f"--processes: process 0 has another configuration, or other data of the same name, than {', '.join(others)}; "
            "all need the same of both",
        )


@contextlib.contextmanager
def together() -> Iterator[None]:
    """End this process at once where it fails among several, or another one is gone; alone, raise as ever.

    JAX would first wait five minutes for the others, which wait for this one in a collective; this way they see that it is gone.
    """
    try:
        yield
    except interruption.Interrupted:  # agreed on by all
        raise
    except BaseException as error:
        if jax.process_count() == 1:
            raise
        if isinstance(error, KeyboardInterrupt):  # while it waited for the others
            os._exit(128 + signal.SIGINT)
        if isinstance(error, jax.errors.JaxRuntimeError | footprint.DoesNotFitError):
            sys.stderr.write(f"{_why(error)}\n")
        else:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _why(error: Exception) -> str:
    """Say why this process ends, among several."""
    reason = str(error).partition("\n")[0]
    if isinstance(error, footprint.DoesNotFitError):
        return f"process {jax.process_index()}: {reason}"
    return f"this process or another one has failed or is gone ({reason}); start all of them again: the same command goes on from here"


def _told_by_all(name: str, said: str) -> list[str]:
    """Return what each process says under a name that is used once."""
    keys = [f"bsexp/{name}/{number}" for number in range(jax.process_count())]
    global_state.client.key_value_set(keys[jax.process_index()], json.dumps(said))
    return [_wait_for(key) for key in keys]


def _wait_for(key: str) -> Any:
    """Return what a process says under a key, from JSON; JaxRuntimeError where one is gone."""
    while True:
        try:
            return json.loads(global_state.client.blocking_key_value_get(key, WAIT))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


class Line:
    """The messages of process 0 to the others, in order."""

    def __init__(self) -> None:
        self._number = 0

    def tell(self, **message: Any) -> None:
        """Send a message of JSON to every other process; nothing where there is none."""
        if jax.process_count() > 1:
            global_state.client.key_value_set(self._next(), json.dumps(message))

    def listen(self) -> dict[str, Any]:
        """Wait for the next message.

        Raises:
            jax.errors.JaxRuntimeError: process 0 is gone.
        """
        return _wait_for(self._next())

    def _next(self) -> str:
        self._number += 1
        return f"bsexp/{self._number}"

"""Two real processes train together and end where one does."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bsexp import results
from bsexp.training import processes

ROOT = Path(__file__).parent.parent.parent
PROGRAM = ("-m", "bsexp.main")
# F1 on a subset, batch norm over ghost batches; two seeds, so that a row of the mesh can lie in
# each process. Sums in a fixed order: the same bits, however many devices and processes there are.
STUDY = (
    "--config=experiments/sharp_minima.py:smoke",
    "--config.data.train_size=6400",
    "--config.batch.size=320",
    "--config.batch.ghost=40",
    "--config.execution.deterministic_reduction=True",
    "--config.seeds=2",
    # LB goes on from SB's weights: each process reads them for itself.
    "--config.groups.LB.start.group=SB",
    "--config.groups.LB.start.epoch=1",
    "--config.train.checkpoint_every=1",
    "--config.train.steps_per_dispatch=5",
    "--config.measure.probes=('evaluation','distance')",
)


def address():
    """Return HOST:PORT with a port that is free."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


@contextlib.contextmanager
def started(
    mnist_dir,
    folder,
    *words,
    number,
    devices,
    last=(),
    last_program=PROGRAM,
):
    """Start a study in a number of processes, each with as many devices; none is left behind.

    The last one has words, or a program, of its own.
    """
    place = f"--coordinator={address()}", f"--processes={number}"
    began = []
    for i in range(number):
        several = [*place, f"--process={i}"] if number > 1 else []
        several += last if i == number - 1 else ()
        program = last_program if i == number - 1 else PROGRAM
        began.append(
            subprocess.Popen(
                [
                    *(sys.executable, "-W", "error", *program, *STUDY),
                    *(f"--workdir={folder}", *words, *several),
                ],
                cwd=ROOT,
                env={
                    **os.environ,
                    "TFDS_DATA_DIR": str(mnist_dir),
                    "JAX_NUM_CPU_DEVICES": str(devices),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        yield began
    finally:
        for each in began:
            each.kill()
            each.communicate()


def finished(began):
    """Wait for all; return their exit codes, outputs and errors."""
    # One that hangs fails; a machine that is ten times slower does not.
    spoken = [each.communicate(timeout=1_200) for each in began]
    return [each.returncode for each in began], *map(list, zip(*spoken, strict=True))


def rows(folder):
    """Return what every row of every run says of training, and its test accuracy, by run.

    Not the time; nor the loss on the test set, whose parts the devices add up in no fixed order.
    """
    left_out = {"seconds", "test_loss"}
    return {
        run.name: [
            {key: value for key, value in row.items() if key not in left_out}
            for row in results.read_rows(run / results.CURVES)
        ]
        for run in sorted((folder / "runs").iterdir())
    }


@pytest.mark.slow
def test_a_process_that_runs_out_of_memory_says_what_it_needs_and_ends_all(
    mnist_dir, tmp_path
):
    """60 000 examples of F1 in one batch, half of them in each process: 1.0 GiB beside what compiles."""
    large = (
        "--config.data.train_size=60000",
        "--config.batch.size=60000",
        "--config.batch.ghost=0",
        "--config.execution.deterministic_reduction=False",
        "--config.seeds=1",
    )
    with started(
        *(mnist_dir, tmp_path, *large),
        number=2,
        devices=1,
        last_program=("-m", "tests.limited", str(1_200 * 2**20)),
    ) as began:
        codes, _, errors = finished(began)
    assert codes == [1, 1], errors
    assert errors[0].startswith("this process or another one has failed or is gone (")
    assert errors[1].startswith("process 1: out of memory: a device needs 1,0")
    assert errors[1].endswith(" MiB; try a smaller config.batch.microbatch\n")


def test_a_launcher_that_does_not_say_where_the_others_are_is_told(
    monkeypatch, command_line, tmp_path
):
    """An indexed job of Kubernetes without the package by which JAX asks for its pods."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    # JAX warns that the package is not there.
    program = ("-W", "default", "-m", "bsexp.main")
    process = command_line(STUDY[0], f"--workdir={tmp_path}", program=program)
    assert process.returncode == 2
    assert process.stderr.splitlines()[-1].startswith(
        "--coordinator: the processes did not find each other: coordinator"
    )


@pytest.mark.slow
@pytest.mark.parametrize("both", [False, True])
def test_where_one_process_cannot_begin_all_say_why_and_end(mnist_dir, tmp_path, both):
    """A data set that one machine lacks, say; JAX's own end would keep both for minutes, and abort them."""
    wrong = ("--config.optimizer.name=adm",)
    words = {"last": wrong} if not both else {}
    with started(
        mnist_dir, tmp_path, *(wrong if both else ()), number=2, devices=1, **words
    ) as began:
        codes, _, errors = finished(began)
    said = "config.optimizer.name=adm: unknown optimizer; did you mean adam?"
    assert codes == [2, 2], errors
    assert errors[0].startswith(said if both else f"process 1: {said}")
    assert errors[1].startswith(said)
    assert [error.count("\n") for error in errors] == [1, 1]


@pytest.mark.slow
def test_processes_that_would_train_something_else_all_end_and_say_so(
    mnist_dir, tmp_path
):
    """A field that enters no run's name, and yet decides what is dispatched: they would wait for each other for ever."""
    other = ("--config.train.steps_per_dispatch=7",)
    with started(mnist_dir, tmp_path, number=2, devices=1, last=other) as began:
        codes, _, errors = finished(began)
    assert codes == [2, 2], errors
    for error in errors:
        assert error.startswith("--processes: process 0 has another configuration")
    assert not (tmp_path / "runs").exists()


def _begun(program):
    """Start two processes of a Python program that is told the address of the first and the number of each."""
    place = address()
    return [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, place, str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]


# Process 1 comes late to the door, or from it, as on a machine that is busy.
LATE = """
import sys, time
from bsexp.training import processes

class Late:
    def __init__(self, client):
        self._client = client
    def blocking_key_value_get(self, *words):
        found = self._client.blocking_key_value_get(*words)
        time.sleep(2)
        return found
    def __getattr__(self, name):
        return getattr(self._client, name)

number = int(sys.argv[2])
processes.join((sys.argv[1], 2, number))
if number == 1:
    processes.global_state.client = Late(processes.global_state.client)
    time.sleep(2)
with processes.at_the_door():
    raise ValueError("refused")
"""


@pytest.mark.slow
def test_processes_that_are_all_refused_do_not_abort_one_that_is_slower_to_go():
    codes, _, errors = finished(_begun(LATE))
    assert codes == [2, 2], errors
    assert errors == ["refused\n", "refused\n"]


# Process 1 is not yet at the door, and process 0 waits for it.
WAITING = """
import signal, sys, time
from bsexp.training import processes

# A shell may have started the tests with Ctrl-C ignored, as it does what it puts into the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
number = int(sys.argv[2])
processes.join((sys.argv[1], 2, number))
time.sleep(60 * number)
print("here", flush=True)
with processes.at_the_door():
    pass
"""


@pytest.mark.slow
def test_ctrl_c_while_a_process_waits_for_the_others_ends_it_without_a_word():
    first, second = _begun(WAITING)
    try:
        assert first.stdout.readline() == "here\n"
        time.sleep(1)  # until it waits
        first.send_signal(signal.SIGINT)
        assert first.wait(timeout=30) == 128 + signal.SIGINT
        assert first.stderr.read() == ""
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def alone(mnist_dir, tmp_path_factory):
    """The rows of the study in one process."""
    folder = tmp_path_factory.mktemp("alone")
    with started(mnist_dir, folder, number=1, devices=1) as began:
        codes, _, errors = finished(began)
    assert codes == [0], errors
    return rows(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "mesh", "streaming"),
    [(1, {"population": 1, "data": 2}, True), (2, {"population": 2, "data": 2}, False)],
    ids=["batches split over processes, streamed", "two runs, each split"],
)  # fmt: skip
def test_two_processes_give_the_numbers_of_one(
    mnist_dir, tmp_path, alone, devices, mesh, streaming
):
    words = [f"--config.execution.{key}={value}" for key, value in mesh.items()]
    words.append(f"--config.data.streaming={streaming}")
    with started(mnist_dir, tmp_path, *words, number=2, devices=devices) as began:
        codes, outputs, errors = finished(began)
    assert codes == [0, 0], errors
    assert errors == ["", ""]
    assert "Report:" in outputs[0]
    assert "Report:" not in outputs[1]  # the leading process alone speaks
    assert rows(tmp_path) == alone
    for run in (tmp_path / "runs").iterdir():
        evidence = results.read_json(run / "env.json")
        assert evidence["mesh"] == mesh
        assert evidence["processes"] == 2


def wait_for_rows(folder, number):
    """Wait until a run has written a number of rows."""
    for _ in range(6_000):
        if any(
            len(results.read_rows(file)) >= number
            for file in folder.glob("runs/*/metrics.jsonl")
        ):
            return
        time.sleep(0.1)
    pytest.fail("no row was written within ten minutes")


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_and_the_same_command_goes_on(
    mnist_dir, tmp_path
):
    longer = "--config.train.epochs=6"
    with started(mnist_dir, tmp_path, longer, number=2, devices=1) as began:
        wait_for_rows(tmp_path, 1)
        began[1].send_signal(signal.SIGTERM)
        codes, outputs, errors = finished(began)
    assert codes == [128 + signal.SIGTERM] * 2, errors
    assert "the same command goes on from here" in outputs[0]
    # In another number of processes, too: SB and LB of the same length, each with its two seeds.
    with started(mnist_dir, tmp_path, longer, number=1, devices=2) as began:
        codes, _, errors = finished(began)
    assert codes == [0], errors
    for name, found in rows(tmp_path).items():
        assert [row["epoch"] for row in found] == list(range(1, 7)), name


@pytest.mark.slow
def test_a_killed_process_ends_the_other_and_the_same_command_goes_on(
    mnist_dir, tmp_path, alone
):
    with started(mnist_dir, tmp_path, number=2, devices=1) as began:
        wait_for_rows(tmp_path, 1)
        began[1].kill()
        codes, _, errors = finished(began)
    assert codes[0] == 1
    assert "the same command goes on from here" in errors[0]
    with started(mnist_dir, tmp_path, number=2, devices=1) as began:
        codes, _, errors = finished(began)
    assert codes == [0, 0], errors
    assert rows(tmp_path) == alone
    # What is asked for later is measured at the ends as they were saved; nothing is left to train.
    more = "--config.measure.probes=('evaluation','distance','update')"
    with started(mnist_dir, tmp_path, more, number=2, devices=1) as began:
        codes, outputs, errors = finished(began)
    assert codes == [0, 0], errors
    assert "norm of the update" in outputs[0]
    assert rows(tmp_path) == alone


@pytest.mark.parametrize(
    ("variables", "launcher"),
    [
        ({}, ""),
        ({"SLURM_STEP_NODELIST": "node1", "SLURM_NTASKS": "2"}, "slurm"),
        # A batch script outside of srun, and a step of one task.
        ({"SLURM_NTASKS": "2"}, ""),
        ({"SLURM_STEP_NODELIST": "node1", "SLURM_NTASKS": "1"}, ""),
        ({"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1", "OMPI_COMM_WORLD_SIZE": "4"}, "ompi"),
        # Any pod has the first of these, a pod of an indexed job both.
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, ""),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, "k8s"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "tpu"),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, ""),
    ],
)  # fmt: skip
def test_launchers_are_known_by_what_they_leave_in_the_environment(variables, launcher):
    assert processes.launcher(variables) == launcher

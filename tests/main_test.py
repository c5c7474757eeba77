"""The program as a user meets it: real processes, real MNIST, exit codes and what is left on disk."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from bsexp import main, results, workdir

ROOT = Path(__file__).parent.parent

EXPERIMENT = "--config=experiments/sharp_minima.py:smoke"
# The smallest study with all its parts: two runs of one epoch, and every probe on a few examples.
TINY = (
    EXPERIMENT,
    "--config.train.epochs=1",
    "--config.batch.size=2000",
    "--config.measure.statistics_batch=500",
    "--config.measure.sharpness.epsilons=(1e-3,)",
    "--config.measure.sharpness.running_examples=400",
    "--config.measure.sharpness.batch_examples=300",
    "--config.measure.sharpness.lbfgsb_iterations=2",
    "--config.measure.sharpness.ascent_steps=2",
    "--config.measure.hessian.examples=200",
    "--config.measure.hessian.trace_probes=2",
    "--config.measure.path.points=3",
    "--config.measure.path.examples=200",
)


# What is said of a command line, line by line.
BAD_INPUT = [
    ([], ["--config: missing"]),
    (["--config=experiments/nothing.py"], ["--config=experiments/nothing.py: no such file; valid: experiments/"]),
    (["--config=experiments/sharp_minima.py:fast"], ["unknown argument 'fast'; valid: smoke"]),
    ([EXPERIMENT, "fast", "--wokdir=x"], ["fast: stray word", "--wokdir=x: unknown flag; did you mean workdir?"]),
    (
        [EXPERIMENT, "--config.batch.size=-3", "--config.optimizer.name=adm", "--config.seeds=0"],
        [
            "config.batch.size=-3: must be > 0",
            "config.optimizer.name=adm: unknown optimizer; did you mean adam?",
            "config.seeds=0: must be > 0",
        ],
    ),
    ([EXPERIMENT, "--config.data.name=cifar10"], ["config.data.name=cifar10: "]),
    ([EXPERIMENT, "--config.measure.sharpness.epsilons=(0.0,)"], ["config.measure.sharpness.epsilons=(0.0,): must be > 0"]),
    (
        [EXPERIMENT, "--config.batch.ghost=100", "--config.execution.data=512", "--config.train.patience=3"],
        [
            "config.execution.data=512: a mesh of 1 x 512 devices is larger than the ",
            "config.train.monitor: there is no validation_loss while config.data.validation_size is 0",
        ],
    ),
    (
        [EXPERIMENT, "--config.groups.SB.batch.ghost=100"],
        ["config.groups.SB.batch.ghost=100: must divide the batch of 256 examples; nearest that do: 64 and 128"],
    ),
    ([EXPERIMENT, "--config.train.patience=3"], ["config.train.monitor: there is no validation_loss while config.data.validation_size is 0"]),
    (["--config=experiments/batch_size_sweep.py:smoke", "--config.batch.size=512"], ["config.batch.size=512: every group sets it; say config.groups.NAME.batch.size"]),
    (
        [EXPERIMENT, "--config.train.epochs=40000"],
        ["2,400,000,000 examples would be seen, and a run counts up to", "2,396,160,000 examples would be seen"],
    ),
    (
        [EXPERIMENT, "--config.groups.SB.batch.size=1", "--config.groups.LB.batch.ghost=1"],
        [
            "config.groups.SB.batch.size=1: is 1 example, from which batch norm takes all that it is told by; must be >= 2",
            "config.groups.LB.batch.ghost=1: is 1 example",
        ],
    ),
    (
        [EXPERIMENT, "--config.train.epochs=2", "--config.train.steps=400"],
        ["config.train.steps=400: is not reached: config.train.epochs=2 has 20 updates; raise it (group LB)"],
    ),
    ([EXPERIMENT, "--config.execution.engine=xmap"], ["config.execution.engine=xmap: must be jit or pmap"]),
    ([EXPERIMENT, "--config.optimizer.learning_rate=nan"], ["config.optimizer.learning_rate=nan: must be a finite number"]),
]  # fmt: skip
SEVERAL = BAD_INPUT[4]


@pytest.fixture
def called(monkeypatch, capsys, mnist_dir):
    """Run the program as `command_line` does, in this process: a start takes longer than what bad input needs."""

    def run(*words):
        code = main.main(words)
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, said.out, said.err)

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TFDS_DATA_DIR", str(mnist_dir))
    # The folder of compiled programs stays that of the tests.
    monkeypatch.setenv(
        "JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir
    )
    return run


def is_refused(process, messages, folder):
    """Exit code 2, a line an error, and nothing else said or left on disk."""
    assert process.returncode == 2
    lines = process.stderr.splitlines()
    assert len(lines) == len(messages), lines
    assert [
        message for message in messages if not any(message in line for line in lines)
    ] == []
    assert process.stdout == ""
    assert not folder.exists()


@pytest.mark.parametrize(("words", "messages"), BAD_INPUT)
def test_bad_input_is_exit_code_2_one_line_an_error_and_nothing_on_disk(
    called, tmp_path, words, messages
):
    folder = tmp_path / "out"
    is_refused(called(*words, f"--workdir={folder}"), messages, folder)


@pytest.mark.parametrize(("words", "messages"), [BAD_INPUT[0], SEVERAL])
def test_bad_input_ends_a_process_so(command_line, tmp_path, words, messages):
    folder = tmp_path / "out"
    is_refused(command_line(*words, f"--workdir={folder}"), messages, folder)


@pytest.mark.parametrize(
    ("name", "value"), [("JAX_PLATFORMS", "cuda"), ("JAX_NUM_CPU_DEVICES", "0")]
)
def test_devices_that_are_not_there_end_a_process_so(
    command_line, monkeypatch, name, value
):
    monkeypatch.setenv(name, value)
    process = command_line(EXPERIMENT, "--dry_run")
    (line,) = process.stderr.splitlines()
    assert f"{name}={value}: JAX finds no device" in line
    assert process.returncode == 2


def test_a_flag_of_jax_that_it_cannot_read_ends_a_process_so(command_line, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "two")
    process = command_line(EXPERIMENT, "--dry_run")
    (line,) = process.stderr.splitlines()
    assert 'Invalid value "two" for JAX flag jax_num_cpu_devices' in line
    assert process.returncode == 2


def test_a_workdir_that_cannot_be_made_is_named(called, tmp_path):
    (tmp_path / "file").write_text("in the way")
    process = called(*TINY, f"--workdir={tmp_path / 'file'}")
    assert process.returncode == 2
    assert process.stderr.startswith(f"--workdir={tmp_path / 'file'}: ")
    assert "Traceback" not in process.stderr


def test_help_lists_the_fields(command_line):
    process = command_line("--help")
    assert process.returncode == 0
    assert "--config.batch.size=256\n" in process.stdout


def test_the_configuration_is_printed_with_its_overrides(command_line):
    process = command_line(EXPERIMENT, "--config.train.epochs=7", "--print_config")
    assert process.returncode == 0
    assert "--config.train.epochs=7" in process.stdout.splitlines()
    assert "--config.seeds=1" in process.stdout.splitlines()


def test_random_numbers_are_of_one_kind_whatever_the_environment_asks_for(called):
    """A seed's start, under the name that is to say all that decides it, must not depend on JAX's own variables."""
    first = jax.random.bits(jax.random.key(0), (3,))
    settings = {"jax_default_prng_impl": "rbg", "jax_threefry_partitionable": False}
    for name, value in settings.items():
        before = getattr(jax.config, name)
        jax.config.update(name, value)
        try:
            assert jax.random.bits(jax.random.key(0), (3,)).tolist() != first.tolist()
            assert called(EXPERIMENT, "--print_config").returncode == 0
            assert jax.random.bits(jax.random.key(0), (3,)).tolist() == first.tolist()
        finally:
            jax.config.update(name, before)


@pytest.mark.slow
def test_a_dry_run_shows_cost_and_trains_nothing(command_line, tmp_path):
    process = command_line(
        "--config=experiments/sharp_minima.py",
        "--dry_run",
        "--config.data.streaming=True",
        f"--workdir={tmp_path / 'out'}",
    )
    assert process.returncode == 0, process.stderr
    assert "training examples of mnist are streamed, read by threads" in process.stdout
    lines = [line for line in process.stdout.splitlines() if "seed" in line]
    assert len(lines) == 6
    assert "4,680" in lines[0]
    assert "200" in lines[1]
    # 6 B P operations an update, P = 1.455 million entries of kernels, less the gradient to the images that nobody needs.
    flops = float(
        next(cell for cell in lines[0].replace("│", " ").split() if "e+" in cell)
    )
    kernels = 784 * 512 + 4 * 512**2 + 5_120
    expected = 4_680 * 256 * (6 * kernels - 2 * 784 * 512)
    assert 1.0 < flops / expected < 1.05
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def study(command_line, tmp_path_factory):
    """A finished tiny study: its folder and its process."""
    folder = tmp_path_factory.mktemp("study") / "tiny"
    return folder, command_line(*TINY, f"--workdir={folder}")


@pytest.mark.slow
def test_a_study_leaves_the_whole_results_format(study):
    folder, process = study
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    summary = strict_json(folder / "summary.json")
    for group, size in (("SB", 2_000), ("LB", 6_000)):
        measures = summary["groups"][group]
        assert measures["batch_size"] == size
        for name in (
            "train_accuracy",
            "test_accuracy",
            "sharpness/full/1e-3/running",
            "sharpness/full/1e-3/batch",
            "hessian/trace/running",
            "hessian/lambda_max/running",
            "distance_from_start",
        ):
            assert measures[name]["n"] == 1
            assert measures[name]["values"] == [measures[name]["mean"]]
            assert math.isfinite(measures[name]["mean"])
            assert measures[name]["std"] is None
        assert 0.5 < measures["test_accuracy"]["mean"] <= 1
    for run in results.read_json(folder / "study.json")["runs"]:
        place = folder / "runs" / run["run"]
        assert {path.name for path in place.iterdir()} == {
            "checkpoints",
            "config.json",
            "env.json",
            "measurements.json",
            "metrics.jsonl",
            "status.json",
        }
        assert strict_json(place / "status.json")["state"] == "done"
        assert not {"environ", "environment"} & set(strict_json(place / "env.json"))
    assert (folder / "report.html").stat().st_size > 10_000
    assert (
        len(list((folder / "figures").glob("*.svg")))
        == len(list((folder / "figures").glob("*.pdf")))
        == 4
    )
    seconds = strict_json(folder / "env.json")["seconds"]
    assert seconds["total"] > seconds["training"] + seconds["measuring"] > 0
    assert "start and compilation included" in process.stdout


def strict_json(path):
    return json.loads(
        path.read_text(),
        parse_constant=lambda name: pytest.fail(f"{path} holds {name}"),
    )


@pytest.mark.slow
def test_small_and_large_batches_started_at_the_same_point(study):
    frame = results.load(study[0])
    assert set(frame["group"]) == {"SB", "LB"}
    norms = [
        results.measurements(folder)["distance_from_start"]["detail"]["start_norm"]
        for folder in sorted((study[0] / "runs").iterdir())
    ]
    assert norms[0] == norms[1]


@pytest.mark.slow
def test_a_finished_study_prints_its_table_again_and_changes_nothing(
    study, command_line
):
    folder, first = study
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    process = command_line(*TINY, f"--workdir={folder}")
    assert process.returncode == 0
    assert "nothing to compute" in process.stdout
    table = first.stdout[first.stdout.index("┏") : first.stdout.index("Report:")]
    assert table in process.stdout
    assert {
        path: path.read_bytes() for path in folder.rglob("*") if path.is_file()
    } == before


@pytest.mark.slow
def test_a_changed_configuration_says_what_differs_and_reuses_equal_runs(
    study, command_line
):
    folder, _ = study
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("metrics.jsonl")}
    process = command_line(
        *TINY, "--config.measure.path.points=2", f"--workdir={folder}"
    )
    assert process.returncode == 0, process.stderr
    assert "config.measure.path.points: was 3, is 2" in process.stdout
    assert {
        path: len(path.read_text().splitlines()) for path in times
    } == dict.fromkeys(times, 1)
    assert len(list((folder / "runs").iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_study_says_how_to_go_on_and_does(
    study, command_line, mnist_dir, tmp_path, number
):
    words = (*TINY, f"--workdir={tmp_path / 'out'}")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "bsexp.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TFDS_DATA_DIR": str(mnist_dir)},
    )
    wait_for_status(tmp_path / "out", "training")
    process.send_signal(number)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 128 + number, errors
    assert "the same command goes on from here" in output
    assert "Traceback" not in errors
    if number == signal.SIGTERM:
        return  # going on is the same after either; once is enough
    assert command_line(*words).returncode == 0
    ours, undisturbed = (frame_of(folder) for folder in (tmp_path / "out", study[0]))
    assert ours == undisturbed


def frame_of(folder):
    frame = results.load(folder)
    return frame.set_index(["group", "seed", "measure"])["value"].to_dict()


def wait_for_status(folder, state):
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if any(
            f'"state": "{state}"' in file.read_text()
            for file in folder.glob("runs/*/status.json")
        ):
            return
        time.sleep(0.05)
    pytest.fail(f"no run was {state} within ten minutes")


# The smallest look at a finished run with all its parts.
LOOK = (
    "--config=experiments/curvature.py:smoke",
    "--config.measure.hessian.examples=100",
    "--config.measure.density.examples=100",
    "--config.measure.density.iterations=4",
    "--config.measure.flatness.examples=100",
    "--config.measure.sharpness.running_examples=100",
    "--config.measure.sharpness.subspace=5",
    "--config.measure.noise_scale.groups=8",
)


@pytest.mark.slow
def test_the_curvature_of_a_finished_run_is_measured_printed_and_plotted(
    study, command_line, tmp_path
):
    run = next((study[0] / "runs").iterdir())
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    words = (*LOOK, f"--config.run={run}", f"--workdir={tmp_path / 'out'}")
    process = command_line(*words)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    for heading in (
        "Trace of the Hessian by parameter",
        "NormalisedDense_0/kernel",
        "Largest eigenvalues of the Hessian",
        "B_simple = tr Σ / |G|², examples",
        "φ, random subspace, ε = 1e-3",
        "largest in SAM's ball",
    ):
        assert heading in process.stdout
    figures = {path.stem for path in (tmp_path / "out" / "figures").glob("*.svg")}
    assert {"density", "trace_by_layer", "sharpness", "training_curves"} == figures
    # The run itself is as it was, and its weights were the ones that were measured.
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert {path: after.get(path) for path in before} == before
    trained, looked = (
        results.measurements(folder)["evaluation/running"]["values"]
        for folder in (run, tmp_path / "out" / "runs" / run.name)
    )
    assert trained == looked
    again = command_line(*words)
    assert "nothing to compute" in again.stdout
    assert "Trace of the Hessian by parameter" in again.stdout


def test_a_run_to_measure_must_be_there(called, tmp_path):
    process = called(
        "--config=experiments/curvature.py",
        f"--config.run={tmp_path}",
        f"--workdir={tmp_path / 'out'}",
    )
    assert process.returncode == 2
    assert process.stderr.startswith(f"config.run={tmp_path}: no run is there")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes_do_not_work_in_one_folder(study, command_line):
    with workdir.locked(study[0]):
        process = command_line(*TINY, f"--workdir={study[0]}")
    assert process.returncode == 2
    assert "another process is computing there" in process.stderr

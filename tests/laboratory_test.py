import json

import pytest

# What a process has mapped when JAX has started depends on the machine: the limit is set beyond it.
LIMITED = """
import os, resource, sys
import jax
from bsexp import main
jax.devices()
with open("/proc/self/statm") as file:
    mapped = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (mapped + 3 * 2**29, resource.RLIM_INFINITY))
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_run_that_does_not_fit_in_memory_fails_alone_and_says_what_takes_less(
    tmp_path, command_line
):
    """60 000 examples of F1 in one batch need more than 1.5 GiB: LB fails at training, SB when it is measured."""
    found = command_line(
        "--config=experiments/sharp_minima.py:smoke",
        "--config.data.train_size=60000",
        "--config.train.epochs=1",
        "--config.groups.SB.batch.size=6000",
        "--config.groups.LB.batch.size=60000",
        "--config.measure.modes=('batch',)",
        "--config.measure.probes=('hessian',)",
        "--config.measure.statistics_batch=60000",
        "--config.measure.hessian.examples=60000",
        f"--workdir={tmp_path}",
        program=("-c", LIMITED),
    )
    assert found.returncode == 1, found.stderr
    reasons = {
        folder.name.split("-")[3]: json.loads((folder / "status.json").read_text())
        for folder in (tmp_path / "runs").iterdir()
    }
    assert {each["state"] for each in reasons.values()} == {"failed"}
    small, large = reasons["B6000"]["reason"], reasons["B60000"]["reason"]
    assert small == (
        "hessian/trace/batch: out of memory; in mode batch a smaller config.measure.statistics_batch takes less"
    )
    assert large.startswith("out of memory: a device needs ")
    assert large.endswith("; try a smaller config.batch.microbatch")
    for reason in (small, large):
        assert reason in found.stdout

"""A network of the user's from the command line: README's example, and one without batch norm."""

import json
import re

import pytest
from readme_test import README

WITHOUT_BATCH_NORM = """

class Plain(nn.Module):
    num_classes: int
    momentum: float

    @nn.compact
    def __call__(self, inputs, ghost, keys):
        hidden = nn.Dense(32)(inputs.reshape((len(inputs), -1)))
        return nn.Dense(self.num_classes)(nn.relu(nn.LayerNorm()(hidden)))
"""
SMALL = (
    "--config=experiments/sharp_minima.py:smoke",
    "--config.data.train_size=2000",
    "--config.train.epochs=2",
    "--config.groups.SB.batch.size=50",
    "--config.measure.probes=('evaluation','hessian')",
)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """README's example in a module that Python finds, and a network without batch norm behind it."""
    (code,) = re.findall(
        r"```python\n(from flax import linen.*?)```", README, re.DOTALL
    )
    found = tmp_path / "my_network.py"
    found.write_text(code + WITHOUT_BATCH_NORM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return found


def measured(folder):
    return {
        path.parent.name: json.loads(path.read_text())["measurements"]
        for path in folder.glob("runs/*/measurements.json")
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Network", "Plain"])
def test_it_is_trained_and_measured_and_another_file_makes_another_run(
    file, tmp_path, command_line, name
):
    folder = tmp_path / "study"
    words = (
        *SMALL,
        f"--config.model.name=my_network:{name}",
        f"--workdir={folder}",
    )
    first = command_line(*words)
    assert first.returncode == 0, first.stderr
    runs = measured(folder)
    assert len(runs) == 2
    for run, found in runs.items():
        assert run.startswith(f"mnist-my_network-{name}-adam-B")
        accuracy = found["evaluation/running"]["values"]["train_accuracy"]
        assert accuracy > 0.5
        if name == "Plain":
            batch = found["evaluation/batch"]["values"]["train_accuracy/batch"]
            assert batch == accuracy
    again = command_line(*words)
    assert "nothing to compute" in again.stdout
    file.write_text(file.read_text() + "# another file\n")
    changed = command_line(*words)
    assert changed.returncode == 0, changed.stderr
    assert len(measured(folder)) == 4
    look = command_line(
        "--config=experiments/curvature.py:smoke",
        f"--config.run={folder / 'runs' / min(runs)}",
        f"--workdir={tmp_path / 'look'}",
    )
    assert look.returncode == 2
    assert (
        f"the file that holds my_network:{name} has become another one" in look.stderr
    )


@pytest.mark.slow
@pytest.mark.usefixtures("file")
def test_ghost_batches_restrict_no_network_without_batch_norm(tmp_path, command_line):
    """In microbatches its loss after two epochs is that of whole batches; one with batch norm is asked for a ghost batch."""

    def ended(name, folder, *words):
        model = f"--config.model.name=my_network:{name}"
        return command_line(*SMALL, model, f"--workdir={tmp_path / folder}", *words)

    losses = {}
    for folder, words in (
        ("whole", ()),
        ("parts", ("--config.batch.microbatch=25",)),
        # An eighth of each batch lies together: 10 examples of SB's, 25 of LB's.
        ("ordered", ("--config.groups.SB.batch.size=80",
                     "--config.execution.deterministic_reduction=True")),
    ):  # fmt: skip
        done = ended("Plain", folder, *words)
        assert done.returncode == 0, done.stderr
        losses[folder] = [
            found["evaluation/running"]["values"]["train_loss"]
            for run, found in measured(tmp_path / folder).items()
            if "B50" in run
        ]
        if words:
            refused = ended("Network", "refused", *words)
            assert refused.returncode == 2
            assert "config.batch.ghost" in refused.stderr
    assert losses["parts"] == pytest.approx(losses["whole"], rel=1e-3)
    assert len(losses["whole"]) == 1

"""A synthetic results folder with obviously artificial numbers, and the means to damage it."""

import json
import math
from pathlib import Path

import pytest

from bsexp import results

MODES = {"running": "", "batch": "/batch"}
SHARPNESS = {
    ("SB", "running"): 40.0,
    ("LB", "running"): 4000.0,
    ("SB", "batch"): 1.0,
    ("LB", "batch"): 300.0,
}
TEST = {"SB": 0.98, "LB": 0.97}
SIZES = {"SB": 100, "LB": 1000}
REFERENCE = {
    "SB": {
        "test_accuracy": [0.9803, 0.0007],
        "sharpness/full/1e-3/batch": [1.23, 0.83],
    },
    "LB": {
        "test_accuracy": [0.9781, 0.0007],
        "sharpness/full/1e-3/batch": [205.14, 69.52],
    },
}
ENV = {
    "commit": "abc123",
    "dirty": False,
    "python": "3.11.7",
    "packages": {"jax": "0.10.2"},
    "platform": "Linux-test",
    "cpu": "a test processor",
    "cores": 2,
    "memory_gib": 24.0,
    "devices": ["cpu:0"],
    "engine": "jit",
    "seconds": {"total": 812.3, "training": 300.1},
}


def run_name(group, seed):
    return f"toy-B{SIZES[group]}-seed{seed}-00000000"


def search_record(name, value, status="limit"):
    lbfgsb = {
        "value": value / 2,
        "status": status,
        "message": "STOP: limit",
        "evaluations": 12,
        "iterations": 10,
        "moved": 0.034,
    }
    searches = {"lbfgsb": lbfgsb, "sign_ascent": {"value": value, "evaluations": 11}}
    detail = {
        "loss_at_point": 0.01,
        "examples": 60,
        "best": "sign_ascent",
        "searches": searches,
    }
    return {"settings": {}, "values": {name: value}, "detail": detail, "seconds": 1.0}


def path_record(start):
    alpha = [-1 + i / 8 for i in range(25)]
    loss = [0.01 + a * a * (a - 1) ** 2 for a in alpha]
    accuracy = [1 - min(value, 0.9) for value in loss]
    detail = {
        "from": start,
        "alpha": alpha,
        "train_loss": loss,
        "train_accuracy": accuracy,
    }
    detail |= {
        "test_loss": [0.05 + v for v in loss],
        "test_accuracy": [0.98 * v for v in accuracy],
    }
    return {"settings": {}, "values": {}, "detail": detail, "seconds": 2.0}


def record(values, **detail):
    return {"settings": {}, "values": values, "detail": detail, "seconds": 1.0}


def measurements(group, seed):
    found = {"distance_from_start": record({"distance_from_start": 10.0 + seed})}
    for mode, suffix in MODES.items():
        accuracy = {
            f"train_accuracy{suffix}": 1.0,
            f"test_accuracy{suffix}": TEST[group] + 0.001 * seed,
        }
        loss = {f"train_loss{suffix}": 1e-5 * (1 + seed), f"test_loss{suffix}": 0.06}
        found[f"evaluation/{mode}"] = record(accuracy | loss)
        for epsilon, share in (("1e-3", 1.0), ("5e-4", 0.25)):
            name = f"sharpness/full/{epsilon}/{mode}"
            found[name] = search_record(
                name, SHARPNESS[group, mode] * share * (1 + 0.1 * seed)
            )
        layers = {
            "a/kernel": {"trace": 70.0 + seed, "stderr": 0.5},
            "b": {"trace": 30.0, "stderr": 0.1},
        }
        found[f"hessian/trace/{mode}"] = record(
            {f"hessian/trace/{mode}": 100.0 + seed},
            stderr=1.0,
            probes=10,
            layers=layers,
        )
        if group == "LB":
            found[f"path/linear/{mode}"] = path_record(run_name("SB", seed))
    top = {"hessian/lambda_max/running": 20.0 * (1 + seed)}
    found["hessian/lambda_max/running"] = record(
        top,
        residual=0.01,
        converged=True,
        eigenvalues=[20.0 * (1 + seed), 7.0],
        residuals=[0.01, 2.0],
        all_converged=[True, False],
    )
    return found


def metrics(group, epochs=6):
    for epoch in range(1, epochs + 1):
        accuracy = TEST[group] - 0.5 * math.exp(-epoch)
        row = {
            "epoch": epoch,
            "step": 10 * epoch,
            "examples": 60 * epoch,
            "seconds": 1.0,
        }
        yield row | {
            "train_loss": 1 / epoch,
            "train_accuracy": accuracy + 0.01,
            "test_loss": 1.0,
            "test_accuracy": accuracy,
        }


class Folder:
    """A study's folder on disk; its methods change one thing each."""

    def __init__(self, path, seeds):
        self.path = path
        self.runs = [(group, seed) for seed in seeds for group in SIZES]
        path.mkdir()
        results.write_json(path / "env.json", ENV)
        results.write_json(path / "study.json", self._study())
        for group, seed in self.runs:
            self._write_run(group, seed)

    def _study(self):
        labels = [
            {
                "run": run_name(group, seed),
                "group": group,
                "seed": seed,
                "batch_size": SIZES[group],
            }
            for group, seed in self.runs
        ]
        return {
            "schema": 1,
            "name": "toy",
            "question": "Do large batches find sharper minima?",
            "source": "an artificial study",
            "command": "python -m bsexp.main --config=experiments/toy.py",
            "started": "2026-01-01T00:00:00Z",
            "finished": "2026-01-01T01:00:00Z",
            "config": {"base": {"model": "F1"}},
            "reference": REFERENCE,
            "comparison": ["SB", "LB"],
            "runs": labels,
        }

    def _write_run(self, group, seed):
        folder = self.run(group, seed)
        folder.mkdir(parents=True)
        results.write_json(folder / "status.json", {"state": "done"})
        results.write_json(folder / "env.json", ENV)
        results.write_rows(folder / "metrics.jsonl", list(metrics(group)))
        found = {"schema": 1, "measurements": measurements(group, seed)}
        results.write_json(folder / "measurements.json", found)

    def run(self, group, seed) -> Path:
        return self.path / "runs" / run_name(group, seed)

    def study(self, **changes):
        study = results.read_json(self.path / "study.json")
        results.write_json(self.path / "study.json", study | changes)

    def measure(self, name, group, values):
        """Replace a measure in each of a group's runs: seed -> value; None stands for null."""
        for seed, value in values.items():
            file = self.run(group, seed) / "measurements.json"
            content = json.loads(file.read_text())
            for entry in content["measurements"].values():
                if name in entry["values"]:
                    entry["values"][name] = value
            results.write_json(file, content)

    def drop(self, name):
        """Remove a measurement from all runs."""
        for group, seed in self.runs:
            file = self.run(group, seed) / "measurements.json"
            content = json.loads(file.read_text())
            content["measurements"].pop(name, None)
            results.write_json(file, content)

    def damage(self, files, text):
        """Replace the content of all files that match; None deletes them."""
        for file in sorted(self.path.glob(files)):
            file.unlink() if text is None else file.write_text(text)


@pytest.fixture
def make(tmp_path):
    """Build a study's folder: make(seeds=3)."""
    return lambda seeds=3: Folder(tmp_path / "study", range(seeds))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A complete study for tests that change nothing in it."""
    return Folder(tmp_path_factory.mktemp("pristine") / "study", range(3))


@pytest.fixture
def study(make):
    return make()

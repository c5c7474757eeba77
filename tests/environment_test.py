import json
import os

from bsexp import environment


def test_the_evidence_names_versions_and_hardware_and_no_environment_variable(
    monkeypatch,
):
    monkeypatch.setenv("BSEXP_SECRET", "hunter2-not-for-results")
    found = environment.describe()
    assert found["packages"]["jax"]
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["devices"][0].startswith("cpu:0")
    assert "hunter2" not in json.dumps(found)

from bsexp import results
from bsexp.report import tables
from bsexp.report.folder import read
from bsexp.report.spectra import spectra


def test_the_trace_has_its_standard_error_and_the_eigenvalue_its_residual(study):
    found = list(spectra(read(study.path)))
    first = next(
        each for each in found if each.run.startswith("SB") and "0" in each.run
    )
    assert first.mode == "running"
    assert first.trace == "100.0 ± 1.0"
    assert first.probes == "10"
    assert float(first.largest) == 20.0
    assert float(first.residual) == 0.01
    assert first.converged == "yes"


def test_what_was_not_measured_is_absent_and_not_zero(study):
    batch = next(each for each in spectra(read(study.path)) if each.mode == "batch")
    assert batch.largest == batch.residual == batch.converged == tables.ABSENT


def test_a_run_without_a_hessian_has_no_row(study):
    for file in study.path.glob("runs/*/measurements.json"):
        results.write_json(file, {"schema": 1, "measurements": {}})
    assert list(spectra(read(study.path))) == []

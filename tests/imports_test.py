"""Imports go one way: main -> study -> {training, probes, report} -> {data, models, curvature, results}."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bsexp"
# What each part may import of bsexp, beside itself.
ALLOWED = {
    "__init__": set(),
    "results": set(),
    "bounds": set(),
    "counts": {"bounds"},
    "config": {"bounds", "counts"},
    "conversion": set(),
    "catalogue": {"config"},
    "rates": {"bounds", "catalogue", "config", "conversion"},
    "checks": {"bounds", "catalogue", "config", "conversion", "counts", "rates"},
    "door": {"catalogue", "checks", "config", "conversion"},
    "command": {"config", "conversion", "door"},
    "progress": set(),
    "environment": {"huge_pages"},
    "compile_cache": set(),
    "random_numbers": set(),
    "huge_pages": set(),
    "curvature": set(),
    "keskar2017": set(),
    "data": {"bounds", "config", "counts"},
    "models": set(),
    "training": {"bounds", "config", "results", "data", "models"},
    "probes": {"config", "counts", "data", "models", "curvature", "training"},
    "report": {"results", "keskar2017"},
    "items": {"config", "door", "results", "probes"},
    "workdir": {"config", "conversion", "door", "items", "results", "probes", "training"},
    "renewal": {"config", "items", "results", "workdir", "workshop"},
    "sharing": {"config", "door", "items", "results", "workdir", "data"},
    "workshop": {"config", "door", "items", "progress", "results", "workdir", "probes", "training", "data", "models"},
    "laboratory": {"config", "door", "items", "progress", "results", "workdir", "workshop", "probes", "training", "data"},
    "study": {"catalogue", "config", "door", "items", "environment", "laboratory", "renewal", "sharing", "workshop", "progress", "results", "workdir", "report", "probes", "training", "data", "models"},
    "dry_run": {"config", "door", "items", "progress", "renewal", "results", "study", "workdir", "workshop", "training", "data"},
    "estimate": {"config", "door", "dry_run", "environment", "keskar2017", "study", "workshop", "data", "training"},
    "trained": {"door", "models", "results", "study", "workshop", "data"},
    "collection": {"command", "config", "keskar2017", "door", "dry_run", "estimate", "report", "results", "study", "data"},
    "main": {"bounds", "collection", "command", "compile_cache", "door", "dry_run", "huge_pages", "random_numbers", "study", "training"},
}  # fmt: skip


def part(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """List (module, name) of every import in a file, ('flax', None) for ``import flax``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from ((node.module, alias.name) for alias in node.names)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_file_imports_only_what_its_part_may(path):
    own = part(path)
    assert own in ALLOWED, f"{own} is a new part of bsexp: say here what it may import"
    for module, name in imported(path):
        if module.split(".")[0] != "bsexp":
            continue
        target = module.split(".")[1] if "." in module else name
        assert target in {own, None} | ALLOWED[own], (
            f"{path.name} imports {module} {name or ''}"
        )


def test_every_permission_is_used():
    """One that nothing needs would let an import come in unnoticed."""
    used = {own: set() for own in ALLOWED}
    for path in FILES:
        for module, name in imported(path):
            if module.split(".")[0] == "bsexp":
                used[part(path)].add(module.split(".")[1] if "." in module else name)
    unused = {own: ALLOWED[own] - used[own] for own in ALLOWED}
    assert {own: names for own, names in unused.items() if names} == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_linen_stays_in_models(path):
    libraries = {module.split(".")[0] for module, _ in imported(path)}
    assert "flax" not in libraries or part(path) == "models"


def test_main_is_short():
    assert len((PACKAGE / "main.py").read_text(encoding="utf-8").splitlines()) <= 80

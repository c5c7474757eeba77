import jax
import pytest


@pytest.fixture
def float64():
    """Compute in double precision: theorems hold to its rounding."""
    with jax.enable_x64(True):
        yield

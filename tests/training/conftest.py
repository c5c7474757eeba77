import functools

import pytest
from training import jobs


@pytest.fixture(scope="session")
def make_job(mnist):
    return functools.partial(jobs.make, mnist)

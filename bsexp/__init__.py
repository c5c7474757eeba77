"""bsexp: which batch size should I train with, and what does it do to my model?"""

import time

STARTED = (
    time.perf_counter()
)  # before the heavy imports, so that reported times include them

"""The program with so many bytes of memory as the first argument says, beyond those of JAX when it has been imported.

Of data, not of address space, of which every thread takes 64 MiB. LLVM ends the process where it cannot have its kilobytes:
nothing is compiled while another program fills the memory.
"""

import os
import resource
import sys
from pathlib import Path

import jax

from bsexp import main

jax.config.update("jax_cpu_enable_async_dispatch", False)
statm = Path("/proc/self/statm").read_text()
data = int(statm.split()[5]) * os.sysconf("SC_PAGE_SIZE")
limit = data + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
sys.exit(main.main(sys.argv[2:]))

"""What a learner on CPU keeps in memory without need, and how it is bounded.

Two libraries make a process larger with each new shape of a pack:

- oneDNN compiles each bfloat16 product of matrices for its shape, and keeps 1,024 of them. Branches
  of ever other lengths fill that: 0.6 GiB, whatever the size of the model.
- malloc keeps what is freed. What oneDNN keeps lies between, so it rarely fits the next use.

The learner of the demo, with 1.5 million parameters, took 2.0 GiB after 40 updates. With both
bounds it takes 0.9 GiB, and 1.4 GiB until the next return.
"""

import ctypes

ONEDNN = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256"}
"""Environment variables of a learner's process. With 64 compiled products an update of the demo
took 7 % more processor time than with 1,024, with 256 it took 1 % more."""
FREE_AFTER = 200_000
"""Tokens that are trained from one return of free memory to the next: some ten updates of the demo.
The pages come back from the system one by one. Each update took a quarter more processor time if
it was done after each."""


def return_free_memory() -> None:
    """Give the system what malloc keeps free. Without glibc nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))

"""The learner's memory: what malloc keeps free goes back to the system."""

import ctypes
import platform

import psutil
import pytest

from agent_rl.learner.memory import return_free_memory

BLOCK = 2**20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc can be asked")
def test_memory_that_is_free_between_used_blocks_goes_back_to_the_system() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = libc.memset.restype = ctypes.c_void_p
    libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
    libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    # Once a block of that size was freed, malloc takes blocks up to it from the heap.
    libc.free(libc.malloc(30 * BLOCK))
    blocks = [libc.malloc(BLOCK) for _ in range(200)]
    for block in blocks:
        libc.memset(block, 1, BLOCK)
    process = psutil.Process()
    for block in blocks[::2]:
        libc.free(block)  # each between two that stay
    before = process.memory_info().rss
    return_free_memory()
    # 100 blocks, of which the pages at both ends belong to their neighbours, too.
    assert before - process.memory_info().rss > 90 * BLOCK
    for block in blocks[1::2]:
        libc.free(block)

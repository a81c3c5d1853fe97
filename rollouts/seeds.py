"""Seeds that are the same in every process and every run."""

import hashlib


def derive_seed(seed: int, *parts: str | int) -> int:
    """A 31-bit seed from `seed` and what it is for, such as a task's id and a member's index."""
    digest = hashlib.blake2b(repr((seed, *parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 33

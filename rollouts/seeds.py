"""Seeds that are the same in every process and every run."""

import hashlib


def derive_seed(seed: int, *parts: str | int) -> int:
    """Return a 31-bit seed from `seed` and its purpose, such as a task's id and an episode's index.

    `hash` would not do: Python salts the hashes of strings differently in each process.
    """
    digest = hashlib.blake2b(repr((seed, *parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 33

"""Settings of a few small TextWorld games."""

from typing import Any

SMALL: dict[str, Any] = {
    "challenge": "tw-treasure_hunter",
    "settings": {"level": 3},
    "train": 2,
    "valid": 1,
}

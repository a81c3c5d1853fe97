"""Where things usually are: the table `places.json`, which `count_places` writes."""

import json
from collections.abc import Mapping
from pathlib import Path

PLACES_FILE = Path(__file__).with_name("places.json")
PLACES: Mapping[str, tuple[str, ...]] = {
    kind: tuple(places) for kind, places in json.loads(PLACES_FILE.read_text()).items()
}
"""For each kind of thing, the kinds of places that may hold one, the best to look into first.

Counted over the 3,553 training games: `PLACES["egg"]` begins with "diningtable".
"""

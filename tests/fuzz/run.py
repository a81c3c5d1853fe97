"""Damages files and answers, case after case, and reports what is not answered with an error line.

    python -m tests.fuzz.run --minutes 10

A finding keeps its folder, and `--area NAME --case N` plays that case again alone.
"""

import argparse
import faulthandler
import hashlib
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType

from tests.fuzz.areas import AREAS, EXPECTED
from tests.fuzz.damage import damage

CASE_SECONDS = 180
"""A case that takes longer hangs. On a busy machine a command may take a minute."""


class Hang(Exception):
    """A case took too long."""


@dataclass
class Findings:
    """What came out."""

    cases: Counter[str] = field(default_factory=Counter)
    """Cases by area."""
    refused: Counter[str] = field(default_factory=Counter)
    """Cases that were answered with an error, by area."""
    found: list[str] = field(default_factory=list)
    """A paragraph for each case that was answered in any other way."""


class Fuzzer:
    """Plays cases in a temporary folder. A case depends on the seed, the area and its number."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.folder = Path(mkdtemp(prefix="agent-rl-fuzz-"))
        self.findings = Findings()

    def play(self, name: str, case: int) -> None:
        """Play one case and record its outcome."""
        area = AREAS[name]
        healthy = self.folder / "healthy" / name / "files"
        if not healthy.is_dir():
            healthy.mkdir(parents=True)
            area.make(healthy)
            first = min(path for path in healthy.rglob("*") if path.is_file())
            if area.reads_healthy_files:
                area.read(healthy, first, random.Random(0))
        rng = random.Random(f"{self.seed} {name} {case}")
        place = self.folder / f"{name}-{case}"
        damaged = place / "files"
        shutil.copytree(healthy, damaged)
        file = rng.choice(sorted(path for path in damaged.rglob("*") if path.is_file()))
        what = f"{damage(file, rng)} {file.relative_to(damaged)}"
        before = _digest(damaged)
        self.findings.cases[name] += 1
        signal.signal(signal.SIGALRM, _hang)
        signal.alarm(CASE_SECONDS)
        try:
            area.read(damaged, file, rng)
        except EXPECTED as error:
            signal.alarm(0)
            self.findings.refused[name] += 1
            if area.never_raises:
                self._found(name, case, what, _last_lines(error))
            elif not str(error).strip():
                self._found(name, case, what, f"an error without a message: {error!r}")
        except BaseException as error:
            signal.alarm(0)
            if isinstance(error, KeyboardInterrupt):
                raise
            self._found(name, case, what, _last_lines(error))
        signal.alarm(0)
        if _digest(damaged) != before:
            self._found(name, case, what, "reading changed the files")
        if f"{name}-{case}" not in "".join(self.findings.found):
            shutil.rmtree(place)

    def _found(self, name: str, case: int, what: str, text: str) -> None:
        self.findings.found.append(f"{name}-{case}: {what}\n{text}")


def _last_lines(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)[-6:])


def _hang(number: int, frame: FrameType | None) -> None:
    raise Hang("".join(traceback.format_stack(frame)[-5:]))


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def fuzz(seconds: float, *, seed: int = 0, areas: list[str] | None = None) -> Findings:
    """Play cases of all areas in turn for a time."""
    fuzzer = Fuzzer(seed)
    limit, case = time.monotonic() + seconds, 0
    while time.monotonic() < limit:
        for name in areas or list(AREAS):
            # The areas whose cases are quick get more of them.
            end = time.monotonic() + 0.5
            first = case * 1000
            while time.monotonic() < end and first < case * 1000 + 1000:
                fuzzer.play(name, first)
                first += 1
        case += 1
    if not fuzzer.findings.found:
        shutil.rmtree(fuzzer.folder)
    return fuzzer.findings


def main() -> int:
    """Run from the command line; returns the exit status: 1 if anything was found."""
    faulthandler.enable()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--area", choices=list(AREAS))
    parser.add_argument("--case", type=int, help="play this one case again")
    given = parser.parse_args()
    if given.case is None:
        areas = [given.area] if given.area else None
        findings = fuzz(60 * given.minutes, seed=given.seed, areas=areas)
    else:
        fuzzer = Fuzzer(given.seed)
        fuzzer.play(given.area, given.case)
        findings = fuzzer.findings
    for text in findings.found:
        print(text, end="\n\n")
    print(f"{'area':<14}{'cases':>8}{'refused':>9}")
    for name, count in findings.cases.items():
        print(f"{name:<14}{count:>8}{findings.refused[name]:>9}")
    print(f"{sum(findings.cases.values())} cases, {len(findings.found)} findings")
    return 1 if findings.found else 0


if __name__ == "__main__":
    sys.exit(main())

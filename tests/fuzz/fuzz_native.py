"""Mutated OTLP into the C decoder, compiled with AddressSanitizer and UBSan: any fault ends the run with its stack.

    python tests/fuzz/fuzz_native.py --seconds 60 [--seed 1]

Needs gcc or clang with its sanitizers. It starts itself again, with their libraries loaded first.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import random
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SANITIZED = "TAILSIGHT_FUZZ_SANITIZED"
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def compiled(folder: Path) -> tuple[Path, str]:
    """Compile the module with sanitizers; returns it, and what must be loaded before it."""
    from hatch_build import MODULES

    [module] = [each for each in MODULES if each.name == "_otlp"]
    options = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    built = module.compile_into(folder, *options)
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    libraries = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    return built, " ".join(libraries)


def loaded(path: str) -> Any:
    """Import the sanitized module, and set it up as decoder.py does."""
    import struct

    from tailsight_storage import decoder

    spec = importlib.util.spec_from_file_location("_otlp", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    powers = [decoder._power_of_10(each) for each in decoder._POWERS]
    module.set_up(b"".join(struct.pack("<QQ", *each) for each in powers), 12345)
    return module


def seeds() -> list[bytes]:
    """Valid requests of all kinds."""
    from hypothesis import HealthCheck, given, settings
    from testkit.otlp_strategies import REQUESTS

    found: list[bytes] = []

    @settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(REQUESTS)
    def collect(request: Any) -> None:
        found.append(request.SerializeToString())

    collect()
    return found


def mutated(body: bytes, corpus: list[bytes], dice: random.Random) -> bytes:
    """Flip bits, cut, repeat, put in bytes or a piece of another."""
    out = bytearray(body)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(out) + 1)
        match dice.randrange(6):
            case 0 if at < len(out):
                out[at] ^= 1 << dice.randrange(8)
            case 1:
                del out[at : at + dice.randint(1, 16)]
            case 2:
                out[at:at] = out[at : at + dice.randint(1, 60)]
            case 3 if at < len(out):
                out[at] = dice.choice([0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x12, 0x2A, 0x32, 0xE2, 0xED, 0xF4])
            case 4:
                out[at:at] = dice.randbytes(dice.randint(1, 4))
            case _:
                other = dice.choice(corpus)
                start = dice.randrange(len(other) + 1)
                out[at:at] = other[start : start + dice.randint(1, 80)]
    return bytes(out)


def fuzz(native: Any, seconds: float, seed: int) -> None:
    """Run for a while, and say how much was tried."""
    from tailsight_collector.keep.records import encode_record
    from tailsight_storage.source_files import built_in_rules

    rules = built_in_rules().compiled
    dice = random.Random(seed)
    corpus = seeds()
    now_ns = time.time_ns()
    tried = plain = 0
    ends_s = time.monotonic() + seconds
    while time.monotonic() < ends_s:
        body = mutated(dice.choice(corpus), corpus, dice)
        tried += 1
        record = encode_record(body, now_ns)
        if native.scan(body, now_ns) is not None:
            plain += 1
            native.columns(record, now_ns, 1 << 30)  # which must be able to read what scan() could
            if len(corpus) < 5000 and dice.random() < 0.02:
                corpus.append(body)
        native.match(body, rules)
        with contextlib.suppress(ValueError):
            native.match(body, mutated(rules, corpus, dice))
        for segment in (body, record + body):
            try:
                native.columns(segment, now_ns, dice.choice([1 << 30, 1000, 10]))
            except (ValueError, OverflowError):
                continue
    print(f"{tried:,} inputs, {plain:,} of them plain; no fault")


def main() -> int:
    """Compile and start again, or fuzz."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if path := os.environ.get(SANITIZED):
        fuzz(loaded(path), options.seconds, options.seed)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        built, libraries = compiled(Path(folder))
        environment = os.environ | {
            SANITIZED: str(built),
            "LD_PRELOAD": libraries,
            "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
            "PYTHONMALLOC": "malloc",
        }
        return subprocess.run([sys.executable, __file__, *sys.argv[1:]], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

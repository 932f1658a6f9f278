"""The native core's parsers under libFuzzer, with the sanitizers of addresses and undefined behaviour: ./taskw mobile:fuzz.

``python tests/tools/fuzz_native.py [--seconds 30] [--keep out/fuzz] [TARGET...]``. Needs clang. Targets are those of
mobile/native/fuzz; they start from good files and from what earlier runs under --keep have found. Prints how much was tried.
An input that breaks one ends with exit status 1, and is kept there. Where there is no clang, the tests run the same targets on
mutations without a look at what these reach (fuzz/driver.cc).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fuzz_seeds import fuzz_seeds
from native_cases import tool

from xpert_mobile.bundle.making import BundleOptions, export_bundle

COMPILERS = ["clang++", *(f"clang++-{version}" for version in range(21, 13, -1))]
SANITIZERS = "fuzzer-no-link,address,undefined"
LONGEST = 10
"""Seconds that one input may take, sanitizers and all."""


@dataclass(frozen=True)
class Found:
    """What a run of a target has tried and found."""

    target: str
    executions: int
    seconds: int
    edges: int
    inputs: int
    broken: str = ""


def main() -> None:
    """Build the targets, run them one after another, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="of mobile/native/fuzz; by default all")
    parser.add_argument("--seconds", type=int, default=30, help="for each target")
    parser.add_argument("--keep", type=Path, default=Path("out/fuzz"), help="folder of the inputs that are found")
    asked = parser.parse_args()
    compiler = _compiler()
    build = tool("build")
    definitions = (f"CMAKE_CXX_COMPILER={compiler}", "XPERT_FUZZER=ON")
    try:
        built = build.Build(tests=True, sanitize=SANITIZERS, definitions=definitions).build() / "bin"
    except build.BuildError as error:
        sys.exit(f"fuzz: {error}")
    seeds = _seeds(asked.keep / "seeds")
    targets = asked.targets or sorted(seeds)
    if unknown := sorted(set(targets) - set(seeds)):
        sys.exit(f"fuzz: there is no target {', '.join(unknown)}. Give some of {', '.join(sorted(seeds))}.")
    found = [_run(built / f"fuzz-{target}", target, seeds[target], asked.keep / target, asked.seconds) for target in targets]
    print(_table(found))
    sys.exit(any(one.broken for one in found))


def _compiler() -> str:
    for name in filter(shutil.which, COMPILERS):
        asked = [name, "-fsanitize=fuzzer", "-x", "c++", "-", "-o", os.devnull]
        empty = 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char *, unsigned long) { return 0; }'
        if subprocess.run(asked, input=empty, text=True, capture_output=True, check=False).returncode == 0:
            return name
    sys.exit(
        "fuzz: there is no clang with libFuzzer, by which the targets are built. Install it (on Debian: apt-get install clang "
        "libclang-rt-dev, or clang-14 libclang-rt-14-dev)."
    )


def _seeds(folder: Path) -> Mapping[str, list[Path]]:
    folder.mkdir(parents=True, exist_ok=True)
    bundle = folder / "starter.xpert"
    if not bundle.exists():
        print("fuzz - exporting a bundle of the starter models, whose files are seeds", file=sys.stderr)
        options = BundleOptions(rank=4, batch=2, lengths=(32,), generate=32)
        export_bundle("starter:base", bundle, options=options, with_encoder=False, cache=folder / "cache")
    return fuzz_seeds(folder, bundle)


def _run(program: Path, target: str, seeds: Iterable[Path], keep: Path, seconds: int) -> Found:
    corpus, broken = keep / "corpus", keep / "broken"
    for folder in (corpus, broken):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        shutil.copyfile(seed, corpus / f"seed-{seed.name}")
    print(f"fuzz - {target}, {seconds} s", file=sys.stderr, flush=True)
    command = [program, f"-max_total_time={seconds}", f"-timeout={LONGEST}", "-rss_limit_mb=3000", "-print_final_stats=1"]
    command += [f"-artifact_prefix={broken}/", corpus]
    environment = {
        # Sizes that a file states may be absurd: that is an error of the file, not of the program.
        "ASAN_OPTIONS": "allocator_may_return_null=1:detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    with (keep / "log").open("w") as log:
        code = subprocess.run(
            [str(word) for word in command], env={**os.environ, **environment}, stdout=log, stderr=log, check=False
        ).returncode
    said = (keep / "log").read_text(errors="replace")
    if code:
        print(said[-6000:], file=sys.stderr)
    return Found(
        target,
        _last(r"stat::number_of_executed_units: (\d+)", said),
        seconds,
        _last(r"cov: (\d+)", said),
        len(list(corpus.iterdir())),
        f"exit status {code}, see {keep / 'log'} and {broken}" if code else "",
    )


def _last(pattern: str, text: str) -> int:
    numbers = re.findall(pattern, text)
    return int(numbers[-1]) if numbers else 0


def _table(found: Iterable[Found]) -> str:
    rows = [f"{'target':<14}{'executions':>12}{'a second':>10}{'edges':>8}{'inputs':>8}"]
    for one in found:
        rate = one.executions // max(one.seconds, 1)
        rows.append(f"{one.target:<14}{one.executions:>12}{rate:>10}{one.edges:>8}{one.inputs:>8}  {one.broken}".rstrip())
    return "\n".join(rows)


if __name__ == "__main__":
    main()

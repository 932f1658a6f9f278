"""Documents whose examples are run: their blocks of code, and what the comments in these say that is printed.

A line ``# > TEXT`` in a block, or ``CODE  # > TEXT``, says that the block prints TEXT (``...`` stands for anything).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXPECTED = re.compile(r"# > (.*)$", re.MULTILINE)
MARK = "--- end of the block in line"


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes
    ----------
    language
        What stands behind the three quotes.
    code
        Its text.
    line
        Where it begins.
    """

    language: str
    code: str
    line: int

    @property
    def expected(self) -> list[str]:
        return EXPECTED.findall(self.code)

    def unprinted(self, printed: str) -> list[str]:
        """Return what it should have printed and did not."""
        patterns = {told: re.escape(told.strip()).replace(re.escape("..."), ".*") for told in self.expected}
        return [told for told, pattern in patterns.items() if not re.search(pattern, printed)]


def blocks(path: Path, *languages: str) -> Iterator[Block]:
    """Yield the blocks of a document, those in some languages if any are given."""
    text = path.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        if not languages or found[1] in languages:
            yield Block(found[1], found[2], text.count("\n", 0, found.start()) + 1)


def run_in_order(found: list[Block], *, folder: Path, replaced: Mapping[str, str]) -> dict[int, str]:
    """Run blocks of bash and Python as one session of a shell; returns what each printed, by its line.

    What the shell exports, the later blocks have. The first that fails ends it all.
    """
    script = ["set -euo pipefail"]
    for block in found:
        code = block.code
        for old, new in replaced.items():
            code = code.replace(old, new)
        script.append(code if block.language == "bash" else f"python - <<'END_OF_BLOCK'\n{code}END_OF_BLOCK")
        script.append(f"printf '\\n{MARK} {block.line}\\n'")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONWARNINGS": "error",
        "XPERT_CACHE": str(folder / "cache"),
    }
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    parts = re.split(rf"^{MARK} (\d+)\n", done.stdout, flags=re.MULTILINE)
    assert done.returncode == 0, f"after {len(parts) // 2} blocks: {done.stderr[-4000:]}\n{parts[-1]}"
    return {int(line): printed for printed, line in zip(parts[::2], parts[1::2], strict=False)}

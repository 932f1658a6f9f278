"""What an image is made of, as CycloneDX: by syft, built once from its Go module.

``python tests/tools/image_contents.py`` builds it where it is missing. It was chosen because it reads a whole root folder:
Debian's packages, Python's distributions, and programs that no package brought, such as the Python of an official image.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from go_tool import GoTool

TOOL = GoTool("syft", "github.com/anchore/syft/cmd/syft", Path(__file__).parent / "syft")
STATUS = "var/lib/dpkg/status"


def describe(root: Path, name: str, digest: str, out: Path) -> int:
    """Write what lies below an image's root; returns how many packages that are.

    Raises
    ------
    ValueError
        A package that the image's own records name is missing there.
    """
    options = ["--quiet", "--source-name", name, "--source-version", digest, "--output", f"cyclonedx-json={out}"]
    quiet = {"SYFT_CHECK_FOR_APP_UPDATE": "false", "SYFT_FILE_METADATA_SELECTION": "none"}
    subprocess.run([str(TOOL.build()), "scan", f"dir:{root}", *options], env={**os.environ, **quiet}, check=True)
    document = json.loads(out.read_text())
    # The component is the image, not the folder that it was mounted at.
    document["metadata"]["component"] |= {"type": "container", "name": name, "version": digest}
    out.write_text(json.dumps(document, indent=1) + "\n")
    named = {purl.partition("?")[0] for part in document["components"] if (purl := part.get("purl"))}
    missing = sorted(recorded(root) - {_name(purl) for purl in named})
    if missing:
        raise ValueError(f"{out} does not name {len(missing)} packages that are in the image: {', '.join(missing[:10])}.")
    return len(named)


def recorded(root: Path) -> set[str]:
    """Return the packages that dpkg and Python themselves have records of, as KIND/NAME."""
    found = set()
    for block in (root / STATUS).read_text(encoding="utf-8").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(" "))
        if fields.get("Status", "").endswith(" installed"):
            found.add(f"deb/{_normal(fields['Package'])}")
    for metadata in root.glob("opt/**/*.dist-info/METADATA"):
        (name,) = re.findall(r"^Name: (.+)$", metadata.read_text(encoding="utf-8"), re.MULTILINE)[:1]
        found.add(f"pypi/{_normal(name)}")
    return found


def _name(purl: str) -> str:
    kind, _, rest = purl.removeprefix("pkg:").partition("/")
    return f"{kind}/{_normal(rest.rpartition('/')[2].partition('@')[0].replace('%2B', '+').replace('%2b', '+'))}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


if __name__ == "__main__":
    TOOL.build()

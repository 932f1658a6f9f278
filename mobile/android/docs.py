"""Writes the Android library's reference to ``target/docs`` (Dokka), and fails where something public is undocumented.

``python mobile/android/docs.py [options of mvn]``. A link that leads nowhere fails too. Dokka itself can only warn, or fail
at what nobody can document either: the members that Kotlin gives to every enum.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
UNDOCUMENTED = re.compile(r"^\[WARNING\] Undocumented: (\S+)", re.MULTILINE)
OTHER = re.compile(r"^\[WARNING\] (?!Undocumented: )(.*)", re.MULTILINE)
OF_ENUMS = re.compile(r"/(values|valueOf|entries)/")


def main() -> None:
    """Run Dokka, say what it found, and leave with its status, or 1 where something is undocumented."""
    command = ["mvn", "-B", "-f", str(HERE), "-Pdocs", "-DskipTests", "compile", "dokka:dokka@pages", *sys.argv[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        sys.exit(done.returncode)
    found = UNDOCUMENTED.findall(done.stdout)
    # Among the others are links that lead nowhere.
    missing = [name for name in found if not OF_ENUMS.search(name)] + OTHER.findall(done.stdout)
    # Without the enums' members in it, the report would be off, or have another form.
    if not any(map(OF_ENUMS.search, found)):
        sys.exit("docs: Dokka did not report what is undocumented. Look at what it says: mvn -f mobile/android -Pdocs package")
    for name in missing:
        print(f"docs: undocumented or wrong: {name}", file=sys.stderr)
    print(f"docs: {HERE / 'target' / 'docs' / 'index.html'}", file=sys.stderr)
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()

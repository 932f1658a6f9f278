"""`python -m xpert_operator.resources FOLDER` writes the definitions there."""

import sys
from pathlib import Path

from xpert_operator.resources.crds import write

if __name__ == "__main__":
    write(Path(sys.argv[1]))

"""`python -m xpert_services.api`: prints the OpenAPI document."""

from __future__ import annotations

import json
import sys

from xpert_services.api import document

if __name__ == "__main__":
    sys.stdout.write(json.dumps(document(), indent=1, sort_keys=True, ensure_ascii=False) + "\n")

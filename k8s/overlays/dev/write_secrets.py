"""Write the secrets of the overlay for trying to a file for its owner only: ``python k8s/overlays/dev/write_secrets.py FILE``."""

from __future__ import annotations

import os
import secrets
import sys

token, key = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
lines = {"admin-token": token, "token": token, "AWS_ACCESS_KEY_ID": "xpert", "AWS_SECRET_ACCESS_KEY": key}
with os.fdopen(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
    file.writelines(f"{name}={value}\n" for name, value in lines.items())

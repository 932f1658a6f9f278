"""The explorer page, as it was built, in Chromium beside the real server on the starter models."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from api_cases import BASE, publish
from server_cases import client_of, serving, wait

from xpert_services.api.page import BUILT

pytestmark = pytest.mark.slow

WEB = Path(__file__).parents[2] / "services" / "web"


def test_the_page_shows_and_chooses_what_the_server_has(tmp_path: Path) -> None:
    assert (BUILT / "index.html").is_file() and (WEB / "node_modules").is_dir(), "Build the page first: ./taskw web"
    with serving(tmp_path) as (url, said):
        token = said[0].rsplit(" ", 1)[1]
        with client_of(url, token) as client:
            assert client.post("/v1/bases", json={"name": BASE, "source": "starter:base"}).status_code == 201
            for job in [publish(client, name)["job"] for name in ("concise", "poetic")]:
                wait(client, job)
        environment = {**os.environ, "XPERT_SITE": url, "XPERT_SITE_TOKEN": token}
        done = subprocess.run(
            ["npx", "playwright", "test"], cwd=WEB, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from serving_cases import BASE, Site, free_port

from xpert_services.serving import background

SETTINGS = {
    "lease_s": 4.0,
    "probes": ["How do you make tea?", "What is a good walk?", "Why is the sky blue?", "Name a book.", "What is rain?"],
    "max_new_tokens": 120,
    "explainer": {"least": 2, "most": 2, "cpus": 0.5},
    "merger": {"most": 2, "cpus": 0.2},
    "gateway": {"cpus": 0.2},
}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    ports = {name: str(free_port()) for name in ("port", "dashboard-port", "metrics-port")}
    arguments = ["--store", str(folder / "store"), "--site", str(folder / "settings.json"), "--cpus", "2"]
    with pytest.MonkeyPatch.context() as patch:
        # Answers that another run has made would leave the workers nothing to do.
        patch.setenv("XPERT_CACHE", str(folder / "cache"))
        patch.delenv("XPERT_ADMIN_TOKEN", raising=False)
        addresses = background.up(folder, [*arguments, *(f"--{name}={port}" for name, port in ports.items())])
        try:
            yield Site(folder, addresses)
        finally:
            assert background.down(folder)


@pytest.fixture(scope="session")
def published(site: Site) -> Site:
    """The site with two explained pLLMs."""
    site.client.post("/v1/bases", json={"name": BASE, "source": "starter:base"}).raise_for_status()
    for job in [site.publish(name) for name in ("concise", "poetic")]:
        assert site.watch(job)["state"] == "succeeded"
    return site

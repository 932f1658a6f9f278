from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from serving_cases import BASE, PROBES, Site, free_ports

from xpert_services.serving import background

SETTINGS = {
    "lease_s": 4.0,
    "probes": PROBES,
    "max_new_tokens": 160,
    "explainer": {"least": 2, "most": 2, "cpus": 0.5},
    "merger": {"most": 2, "cpus": 0.2},
    "gateway": {"cpus": 0.2},
}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    arguments = ["--store", str(folder / "store"), "--site", str(folder / "settings.json"), "--cpus", "2"]
    with pytest.MonkeyPatch.context() as patch:
        # Answers that another run has made would leave the workers nothing to do.
        patch.setenv("XPERT_CACHE", str(folder / "cache"))
        patch.delenv("XPERT_ADMIN_TOKEN", raising=False)
        addresses = background.up(folder, [*arguments, *free_ports()])
        found = Site(folder, addresses)
        try:
            yield found
        finally:
            found.client.close()
            assert background.down(folder)


@pytest.fixture(scope="session")
def published(site: Site) -> Site:
    """The site with two explained pLLMs."""
    site.client.post("/v1/bases", json={"name": BASE, "source": "starter:base"}).raise_for_status()
    for job in [site.publish(name) for name in ("concise", "poetic")]:
        assert site.watch(job)["state"] == "succeeded"
    return site

"""What the load consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import httpx2
from sites import BASE, Filled
from vegeta import Target

COMPACT = "application/vnd.xpert.catalogue"
RANGE = "bytes=1000000-1065535"
GOOD = ("200", "206", "304")
MIX = {"unchanged": 8, "full": 2, "pllm": 6, "list": 1, "range": 3}
"""Of 20 requests, as phones and a page to look at send them: most ask whether the catalogue changed."""


def targets_of(address: str, filled: Filled) -> dict[str, list[Target]]:
    """Return the requests of each kind of load."""
    headers = {"authorization": f"Bearer {filled.token}"}
    catalogue = Target(f"{address}/v1/catalogues/{BASE}", {**headers, "accept": COMPACT})
    with httpx2.Client(headers=headers, timeout=60) as client:
        etag = client.get(catalogue.url, headers={"accept": COMPACT}).raise_for_status().headers["etag"]
        signed = client.get(f"{address}/v1/artifacts/{filled.big}").headers["location"]
    single: Mapping[str, Target] = {
        "unchanged": Target(catalogue.url, {**catalogue.headers, "if-none-match": etag}),
        "full": catalogue,
        "pllm": Target(f"{address}/v1/pllms/{BASE}/pllm-00007", headers),
        "list": Target(f"{address}/v1/pllms?base={BASE}&limit=20", headers),
        "range": Target(f"{address}{signed}", {"range": RANGE}),
    }
    # Spread out, so that no two of the seldom ones follow each other.
    places = sorted((at / count, kind) for kind, count in MIX.items() for at in range(count))
    return {
        "unchanged": [single["unchanged"]],
        "full": [single["full"]],
        "mixed": [single[kind] for _, kind in places],
    }


def at(target: Target, old: str, new: str) -> Target:
    """Send the same to another address."""
    return replace(target, url=target.url.replace(old, new, 1))

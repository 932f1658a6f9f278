"""Who may talk to whom, as NetworkPolicies say: no network runs where these tests do, so the rules are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

NAME = "app.kubernetes.io/name"


@dataclass(frozen=True)
class Peer:
    """A pod, or with neither namespace nor name whatever is outside the cluster."""

    namespace: str = ""
    name: str = ""


@dataclass(frozen=True)
class Flow:
    """Someone asks someone at a port."""

    source: Peer
    target: Peer
    port: int
    protocol: str = "TCP"


OPERATOR, SERVER = Peer("xpert", "xpert-operator"), Peer("xpert", "xpert-server")
NAMES, PROMETHEUS = Peer("kube-system", "kube-dns"), Peer("monitoring", "prometheus")
APP, KUBERAY, OUTSIDE = Peer("team", "app"), Peer("kuberay", "kuberay-operator"), Peer()

NEEDED = [
    Flow(APP, SERVER, 8400),
    Flow(OPERATOR, SERVER, 8400),
    Flow(OPERATOR, OUTSIDE, 443),
    Flow(OPERATOR, OUTSIDE, 6443),
    Flow(SERVER, OUTSIDE, 443),
    Flow(OPERATOR, NAMES, 53, "UDP"),
    Flow(SERVER, NAMES, 53, "TCP"),
    Flow(PROMETHEUS, OPERATOR, 9090),
]
NEEDED_BY_PODS = [Flow(PROMETHEUS, SERVER, 9090)]
NEEDED_BY_RAY = [
    Flow(PROMETHEUS, SERVER, 8080),
    Flow(SERVER, SERVER, 6379),
    Flow(KUBERAY, SERVER, 8265),
    Flow(SERVER, OUTSIDE, 6443),
]
FORBIDDEN = [
    Flow(APP, OPERATOR, 8080),
    Flow(APP, OPERATOR, 9090),
    Flow(APP, SERVER, 9090),
    Flow(APP, SERVER, 8265),
    Flow(APP, SERVER, 6379),
    Flow(OUTSIDE, SERVER, 8265),
    Flow(PROMETHEUS, SERVER, 8265),
    Flow(OPERATOR, SERVER, 8265),
    Flow(SERVER, OPERATOR, 9090),
    Flow(OPERATOR, OUTSIDE, 80),  # where clouds give out a machine's credentials
    Flow(SERVER, OUTSIDE, 80),
    Flow(SERVER, APP, 8080),
    Flow(OPERATOR, NAMES, 53, "SCTP"),
]


@dataclass(frozen=True)
class Network:
    """The policies of the namespace."""

    policies: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, bodies: Iterable[Mapping[str, Any]]) -> Network:
        return cls(tuple(body["spec"] for body in bodies if body["kind"] == "NetworkPolicy"))

    def lets(self, flow: Flow) -> bool:
        """Tell whether both ends let it through."""
        return self._side("Egress", "to", flow.source, flow.target, flow) and self._side(
            "Ingress", "from", flow.target, flow.source, flow
        )

    def _side(self, direction: str, peers: str, pod: Peer, other: Peer, flow: Flow) -> bool:
        if pod.namespace != "xpert":
            return True
        mine = [each for each in self.policies if direction in each["policyTypes"] and _selects(each["podSelector"], pod)]
        rules = [rule for each in mine for rule in each.get(direction.lower()) or []]
        return not mine or any(_takes(rule, peers, other, flow) for rule in rules)


def _takes(rule: Mapping[str, Any], peers: str, other: Peer, flow: Flow) -> bool:
    ports = [(each["port"], each.get("protocol", "TCP")) for each in rule.get("ports") or []]
    is_port = not ports or (flow.port, flow.protocol) in ports
    return is_port and (peers not in rule or any(_is(each, other) for each in rule[peers]))


def _is(peer: Mapping[str, Any], other: Peer) -> bool:
    assert set(peer) <= {"namespaceSelector", "podSelector"}, f"what is not read here: {sorted(peer)}"
    place = peer.get("namespaceSelector")
    if place is None:
        is_there = other.namespace == "xpert"
    else:
        is_there = bool(other.namespace) and place.get("matchLabels", {}) in (
            {},
            {"kubernetes.io/metadata.name": other.namespace},
        )
    return is_there and _selects(peer.get("podSelector") or {}, other)


def _selects(selector: Mapping[str, Any], pod: Peer) -> bool:
    assert set(selector) <= {"matchLabels"}, f"what is not read here: {sorted(selector)}"
    return dict(selector.get("matchLabels") or {}).items() <= {NAME: pod.name}.items()

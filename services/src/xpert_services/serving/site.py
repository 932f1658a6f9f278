"""Starting a site on a Ray of its own, and ending it."""

from __future__ import annotations

import json
import shutil
import signal
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import ray
from ray import serve

from xpert.core.errors import InputError
from xpert.wire import TokenDraft
from xpert_services.serving.application import app
from xpert_services.serving.args import SiteArgs
from xpert_services.serving.cluster import LOOPBACK, Place, make_private, running

NAME = "xpert"
DASHBOARD = Path(__file__).parents[1] / "grafana" / "xpert.json"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, kw_only=True)
class Start:
    """What to start, and where it listens.

    Attributes
    ----------
    args
        The site.
    place
        Its Ray.
    first_token
        File for the first administrator's token, readable by its owner alone.
    host, port
        Of the API.
    certificate, key
        Files for TLS; the key may be in the certificate's.
    """

    args: SiteArgs
    place: Place
    first_token: Path
    host: str = LOOPBACK
    port: int = 8400
    certificate: Path | None = None
    key: Path | None = None

    def addresses(self) -> dict[str, str]:
        """Say where everything is."""
        scheme = "https" if self.certificate else "http"
        return {
            "api": f"{scheme}://{self.host}:{self.port}",
            "dashboard": f"http://{LOOPBACK}:{self.place.dashboard_port}",
            "dashboard_token_file": str(self.place.token_file),
            "metrics": f"http://{LOOPBACK}:{self.place.metrics_port}/metrics",
            "prometheus_settings": str(self.place.settings / "prometheus" / "prometheus.yml"),
            "grafana_settings": str(self.place.settings / "grafana" / "grafana.ini"),
            **({"admin_token_file": str(self.first_token)} if self.first_token.exists() else {}),
        }


def run(start: Start) -> None:
    """Serve until SIGINT or SIGTERM comes; ends what was started here and nothing else.

    Raises
    ------
    InputError
        Certificate and key cannot be used.
    """
    _check_tls(start)
    with running(start.place):
        # Ray has set its own: they would end it before the deployments gave their jobs back.
        for number in SIGNALS:
            signal.signal(number, _interrupt)
        try:
            _deploy(start)
            sys.stdout.write(f"{json.dumps(start.addresses())}\n")
            sys.stdout.flush()
            while True:
                signal.pause()
        except KeyboardInterrupt:
            pass
        finally:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            serve.shutdown()


def _check_tls(start: Start) -> None:
    """Try certificate and key here: Serve would start and its proxy end, again and again."""
    try:
        if start.key and not start.certificate:
            raise ValueError("a key without a certificate")
        if start.certificate:
            # A key that is locked shall fail, not ask.
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(start.certificate, start.key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise InputError(
            f"TLS with the certificate '{start.certificate}' and the key '{start.key}' fails: {error}. Give "
            "PEM files of one pair, the key without a password."
        ) from error


def _deploy(start: Start) -> None:
    services = start.args.services()
    if not services.tokens.any():
        _keep_first_token(start.first_token, services.tokens.make(TokenDraft(name="first", scope="admin")).secret or "")
    http: dict[str, Any] = {"host": start.host, "port": start.port}
    if start.certificate:
        # Absolute, as what opens them has another current folder.
        key = start.key or start.certificate
        http |= {"ssl_certfile": str(start.certificate.absolute()), "ssl_keyfile": str(key.absolute())}
    serve.start(proxy_location="HeadOnly", http_options=http)
    serve.run(app(_with_what_is_there(start.args)), name=NAME, route_prefix="/")
    # Beside Ray's own, where a Grafana with the settings that Ray wrote looks for them. Ray clears the folder when it starts.
    dashboards = start.place.settings / "grafana" / "dashboards"
    dashboards.mkdir(parents=True, exist_ok=True)
    shutil.copy(DASHBOARD, dashboards)


def _keep_first_token(path: Path, secret: str) -> None:
    if not make_private(path, f"{secret}\n"):
        # Of a store that is no more: this one never had a token before.
        path.write_text(f"{secret}\n")


def _with_what_is_there(args: SiteArgs) -> SiteArgs:
    """Ask for no GPU where there is none: replicas would wait for it for ever."""
    if not args.explainer.gpus or ray.cluster_resources().get("GPU", 0) >= args.explainer.gpus:
        return args
    sys.stderr.write("There is no GPU here: pLLMs are explained on the CPU.\n")
    return args.model_copy(update={"explainer": args.explainer.model_copy(update={"gpus": 0.0})})


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt

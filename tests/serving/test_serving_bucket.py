"""The site on Ray as it is run in earnest: over an S3 bucket, by TLS, growing with its queue, its work seen in traces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import minio_server
import pytest
import trustme
from minio import Minio
from serving_cases import BASE, PROBES, Site, free_ports, wait_for
from tracing_cases import Receiver, receiving, under

import xpert_starter
from xpert.client import Client
from xpert.core.explanation import Explanation
from xpert.models.adapters import WEIGHTS
from xpert_services.serving import background

pytestmark = pytest.mark.slow

BUCKET = "bucket-of-the-tests"
EXPLAINER = "ServeReplica:xpert:explainer"
TRACE = f"{0xFEED:032x}"
SETTINGS = {
    "lease_s": 4.0,
    "probes": PROBES,
    "max_new_tokens": 160,
    "explainer": {"most": 2, "cpus": 0.5, "jobs": 1, "grow_s": 1, "shrink_s": 5},
    "merger": {"cpus": 0.2},
    "gateway": {"cpus": 0.2},
}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, authority = tmp_path_factory.mktemp("certificates"), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver, certified: Path) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    with minio_server.running(tmp_path_factory.mktemp("minio")) as minio, pytest.MonkeyPatch.context() as patch:
        Minio(f"127.0.0.1:{minio.port}", minio.user, minio.password, secure=False, region=minio_server.REGION).make_bucket(BUCKET)
        credentials = {"AWS_ACCESS_KEY_ID": minio.user, "AWS_SECRET_ACCESS_KEY": minio.password}
        for name, value in {"XPERT_CACHE": str(folder / "cache"), **credentials, **receiver.environment}.items():
            patch.setenv(name, value)
        patch.delenv("XPERT_ADMIN_TOKEN", raising=False)
        arguments = [f"--store=s3://{BUCKET}/site?endpoint={minio.url}", f"--site={folder / 'settings.json'}", "--cpus=2"]
        addresses = background.up(folder, [*arguments, f"--certificate={certified / 'server.pem'}", *free_ports()])
        found = Site(folder, addresses, ca=certified / "ca.pem")
        try:
            yield found
        finally:
            found.client.close()
            assert background.down(folder)


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[Client]:
    with Client(site.addresses["api"], token=site.token, cache=site.folder / "client", verify=site.verify) as found:
        found.add_base(BASE, "starter:base")
        yield found


def test_it_is_asked_by_tls_alone(site: Site) -> None:
    address = site.addresses["api"]
    assert address.startswith("https://")
    with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx2.get(f"{address}/version")
    with pytest.raises(httpx2.RemoteProtocolError):
        httpx2.get(f"{address.replace('https', 'http')}/version")
    assert httpx2.get(f"{address}/version", verify=site.verify).status_code == 200


def test_what_is_pushed_is_explained_listed_and_pulled(client: Client, site: Site, tmp_path: Path) -> None:
    adapter = xpert_starter.path_of("concise")
    with under(TRACE):
        pllm = client.push(adapter, BASE, "concise")
    done = client.wait(pllm.job or "")
    assert client.catalogue(BASE).candidates.names == ("concise",)
    assert (client.pull(BASE, "concise") / WEIGHTS).read_bytes() == (adapter / WEIGHTS).read_bytes()
    address = site.client.get(f"/v1/artifacts/{done.result['concise']}", follow_redirects=False).headers["location"]
    (tmp_path / "entry.json").write_bytes(site.client.get(address).content)
    assert Explanation.load(tmp_path / "entry.json").n_probes == len(PROBES)


def test_one_trace_goes_through_the_deployments(client: Client, receiver: Receiver, site: Site) -> None:
    job = client.push(xpert_starter.path_of("concise"), BASE, "concise").job or ""
    assert client.wait(job).state == "succeeded"
    wait_for(lambda: any(each.name == "job explain" for each in receiver.of(TRACE)))
    asked, done = (next(each for each in receiver.of(TRACE) if each.name == name) for name in ("POST /v1/pllms", "job explain"))
    assert (asked.service, done.service) == ("xpert-gateway", "xpert-explain")
    assert (asked.parent, done.parent, done.attributes["xpert.job"]) == (f"{0x1234:016x}", asked.id, job)
    assert {"probing", "decomposition", "store put"} <= {each.name for each in receiver.of(TRACE) if each.parent == done.id}
    wait_for(lambda: any(line.get("job") == job for line in site.logged()))
    assert {line["trace_id"] for line in site.logged() if line.get("job") == job} == {TRACE}
    secrets = (site.token, "concise", BASE, str(site.folder), BUCKET)
    assert not [(word, each) for each in receiver.spans for word in secrets if word in each.text]


def test_a_second_explainer_comes_with_the_queue_and_goes_with_it(client: Client, site: Site) -> None:
    assert len(site.processes(EXPLAINER)) == 1
    names = iter("poetic sarcastic formal friendly tweet expert humorous informal elementary".split())

    def push() -> str:
        name = next(names)
        return client.push(xpert_starter.path_of(name), BASE, name).job or ""

    queued = [push() for _ in range(5)]
    wait_for(lambda: len(site.processes(EXPLAINER)) == 2)
    for job in queued:
        client.wait(job)
    # One after the other, so that one worker does not take both.
    pair = [push()]
    site.watch(pair[0], until=lambda job: job["state"] == "running")
    pair.append(push())
    for job in pair:
        assert site.watch(job)["state"] == "succeeded"
    jobs = {*queued, *pair}
    wait_for(lambda: jobs <= {line.get("job") for line in site.logged()})
    did = {line["job"]: line["pid"] for line in site.logged() if line.get("job") in jobs}
    assert did[pair[0]] != did[pair[1]]
    wait_for(lambda: len(site.processes(EXPLAINER)) == 1, looks=4 * 60)
    assert {job.attempts for job in client.jobs() if job.id in jobs} == {1}

"""The check of a store finds what was planted, and nothing where nothing is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from api_cases import BASE, Site, draft_of, explain_by_chance, site_at
from store_cases import Place

from xpert_services.checks import check, check_twice
from xpert_services.checks.__main__ import main
from xpert_services.jobs import JobRequest
from xpert_services.jobs.state import COLLECTION, JobRecord
from xpert_services.store import Draft

NAMES = ("one", "two")
COLLECTED = f"pllms.{BASE}"


def filled(site: Site, folder: Path) -> Site:
    site.with_base()
    for seed, name in enumerate(NAMES):
        pllm, registration, _ = site.services.pllms.register(draft_of(site.store, name))
        job = site.services.explanations.ask_after(pllm, registration)
        site.services.jobs.cancel(str(job.job))
        explain_by_chance(site.services, pllm, folder, seed=seed)
    return site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return filled(site_at(tmp_path / "store"), tmp_path)


def change(site: Site, collection: str, name: str, **changes: Any) -> None:
    """Write into a record what no part of the server would."""

    def decide(record: Any) -> Draft:
        return Draft({**record.value, **changes}, record.artifacts)

    site.store.records.update(collection, name, decide)


def change_job(site: Site, name: str, **changes: Any) -> None:
    site.store.records.update(COLLECTION, name, lambda record: replace(JobRecord.of(record), **changes).draft())  # type: ignore[arg-type]


def blob_of(site: Site, role: str) -> Path:
    record = site.store.records.get(COLLECTED, "one")
    digest = next(digest for key, digest in record.artifacts.items() if key.startswith(role))
    return next((Path(site.store.objects.root) / "v1" / "blobs").rglob(f"{digest}.*"))  # type: ignore[attr-defined]


def job_of(site: Site) -> str:
    return str(site.store.records.get(COLLECTED, "one").value["job"])


def a_byte_changes(site: Site) -> None:
    path = blob_of(site, "entry/")
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


def bytes_go(site: Site) -> None:
    blob_of(site, "file/adapter_model").unlink()


def a_record_is_cut(site: Site) -> None:
    path = Path(site.store.objects.root) / "v1" / "records" / COLLECTED / "one.json"  # type: ignore[attr-defined]
    path.write_bytes(path.read_bytes()[:-40])


def a_lease_stays(site: Site) -> None:
    change_job(site, job_of(site), state="succeeded", lease="somebody")


def nobody_takes_a_job_up(site: Site) -> None:
    change_job(site, job_of(site), state="running", lease="somebody", deadline=site.store.objects.now() - 3600)


def a_job_did_nothing(site: Site) -> None:
    change_job(site, job_of(site), state="succeeded")
    record = site.store.records.get(COLLECTED, "one")
    kept = {role: digest for role, digest in record.artifacts.items() if role.startswith("file/")}
    site.store.records.replace(record, Draft({**record.value, "explanations": {}}, kept))
    site.services.catalogues.refresh_all()


def nobody_was_asked(site: Site) -> None:
    site.services.pllms.register(draft_of(site.store, "three"))


def a_merge_is_done_twice(site: Site) -> None:
    merge = site.services.jobs.submit(JobRequest(kind="merge", subject="m", inputs={"base": BASE, "n": 1}))
    for name in NAMES:
        change(site, COLLECTED, name, origin=merge.id)


def the_catalogue_is_left_behind(site: Site) -> None:
    change(site, COLLECTED, "one", published=False)


def the_catalogue_has_other_rows(site: Site) -> None:
    (name,) = (record.name for record in site.store.records.list("catalogues"))
    change(site, "catalogues", name, rows={"one": "0" * 16, "two": "0" * 16})


def entries_are_swapped(site: Site) -> None:
    one, two = (site.store.records.get(COLLECTED, name) for name in NAMES)
    entries = {role: digest for role, digest in two.artifacts.items() if role.startswith("entry/")}
    site.store.records.replace(one, Draft(one.value, {**one.artifacts, **entries}))


def files_are_others(site: Site) -> None:
    change(site, COLLECTED, "one", files={})


def the_base_goes(site: Site) -> None:
    site.store.records.remove(site.store.records.get("bases", BASE))


def a_space_is_another(site: Site) -> None:
    record = site.store.records.get("spaces", site.services.spaces.default().digest)
    site.store.records.create("spaces", "0" * 64, Draft(record.value, record.artifacts))


FAULTS: dict[Callable[[Site], None], set[str]] = {
    a_byte_changes: {"artifact-damaged", "entry-wrong", "reference-broken"},
    bytes_go: {"artifact-missing", "reference-broken"},
    a_record_is_cut: {"record-unreadable", "catalogue-behind"},
    a_lease_stays: {"lease-orphaned"},
    nobody_takes_a_job_up: {"lease-orphaned"},
    a_job_did_nothing: {"job-lost"},
    nobody_was_asked: {"job-lost"},
    a_merge_is_done_twice: {"job-doubled"},
    the_catalogue_is_left_behind: {"catalogue-behind"},
    the_catalogue_has_other_rows: {"catalogue-wrong"},
    entries_are_swapped: {"entry-wrong", "catalogue-behind"},
    files_are_others: {"pllm-torn"},
    the_base_goes: {"base-missing"},
    a_space_is_another: {"space-wrong"},
}


def test_nothing_is_found_where_nothing_is_wrong(place: Place, tmp_path: Path) -> None:
    site = filled(Site(place.store()), tmp_path)
    report = check(site.store)
    assert report.problems == ()
    assert (report.counts["jobs"], report.counts["unfinished"], report.counts["orphans"]) == (2, 0, 0)
    assert report.counts["artifacts"] == len(list(site.store.artifacts.list())) > 4


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_what_was_planted_is_found(site: Site, plant: Callable[[Site], None]) -> None:
    plant(site)
    assert {problem.kind for problem in check(site.store).problems} == FAULTS[plant]


def test_what_is_right_at_the_second_look_is_no_problem(site: Site) -> None:
    the_catalogue_is_left_behind(site)
    report = check_twice(site.store, pause_s=1, wait=lambda _: site.services.catalogues.refresh_all())
    assert report.problems == ()
    a_lease_stays(site)
    assert [problem.kind for problem in check_twice(site.store, pause_s=1, wait=lambda _: None).problems] == ["lease-orphaned"]


def test_the_command_says_what_it_found(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--store", str(tmp_path / "store"), "--pause", "0"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == 0
    a_lease_stays(site)
    assert main(arguments) == 1
    problem, counts = map(json.loads, capsys.readouterr().out.splitlines())
    assert (problem["kind"], problem["where"]) == ("lease-orphaned", f"jobs/{job_of(site)}")
    assert (counts["problems"], counts["jobs"]) == (1, 2)
    assert main(["--store", str(tmp_path / "nowhere")]) != 0
    assert "no store" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()

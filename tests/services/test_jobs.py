"""Jobs: asked once, done once, whoever is killed or late."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from api_cases import ShiftedFolder
from job_cases import take_all, work_and_wait

from xpert.core.errors import ConflictError, InputError, MismatchError, NotFoundError, StorageError, UnavailableError
from xpert.wire import Job
from xpert_services.jobs import JobRequest, Jobs, Lease, Stopped, Worker, progress_of
from xpert_services.jobs.leases import pause
from xpert_services.jobs.state import MOST_ATTEMPTS
from xpert_services.store import Store

SPAWN = multiprocessing.get_context("spawn")
LEASE_S = 30.0


def request(n: int = 1, *, group: str = "") -> JobRequest:
    return JobRequest(kind="explain", subject=f"base/{n}", inputs={"n": n}, group=group, total=3)


def take(jobs: Jobs) -> list[Lease]:
    return jobs.take(kinds=["explain"], lease_s=LEASE_S)


@pytest.fixture
def clock(tmp_path: Path) -> ShiftedFolder:
    return ShiftedFolder(tmp_path / "store")


@pytest.fixture
def jobs(clock: ShiftedFolder) -> Jobs:
    return Jobs(Store(clock))


def test_a_job_in_a_folder_and_in_a_bucket(store: Store) -> None:
    jobs = Jobs(store)
    asked = jobs.submit(request())
    assert jobs.submit(request()) == asked
    assert (asked.state, asked.attempts, asked.total) == ("queued", 0, 3)
    (lease,) = take(jobs)
    assert (jobs.get(asked.id).state, take(jobs)) == ("running", [])
    lease.report(2, 3)
    lease.renew()
    assert jobs.get(asked.id).done == 2
    lease.succeed({"a": "b"})
    ended = jobs.get(asked.id)
    assert (ended.state, ended.result, ended.done) == ("succeeded", {"a": "b"}, 3)
    assert jobs.submit(request()) == ended
    assert [job.id for job in jobs.page(after=None, limit=5).items] == [asked.id]
    assert jobs.page(after=None, limit=5, state="queued").items == []
    with pytest.raises(ConflictError, match="lost"):
        lease.succeed({})
    with pytest.raises(NotFoundError):
        jobs.get("0" * 64)


def test_a_list_begins_with_the_newest_and_its_pages_stay(jobs: Jobs, clock: ShiftedFolder) -> None:
    asked = []
    for n in range(6):
        clock.ahead = n // 2 * 10.0  # two at a time are asked for in the same moment
        asked.append(jobs.submit(request(n)).id)
    whole = [job.id for job in jobs.page(after=None, limit=9).items]
    assert [sorted(whole[i : i + 2]) for i in (0, 2, 4)] == [sorted(asked[i : i + 2]) for i in (4, 2, 0)]
    first = jobs.page(after=None, limit=3)
    clock.ahead = 1000.0
    newest = jobs.submit(request(9)).id
    take(jobs)[0].fail(MismatchError("no"))
    again = Jobs(Store(clock))  # another replica goes on with the same page
    second = again.page(after=first.next, limit=3)
    assert [job.id for job in (*first.items, *second.items)] == whole
    assert second.next is None
    assert again.page(after=None, limit=1).items[0].id == newest
    assert [job.state for job in again.page(after=None, limit=9, state="failed").items] == ["failed"]
    assert again.page(after=None, limit=9, kind="merge").items == again.page(after=None, limit=9, base="other").items == []
    for wrong in ("x", "1", f"{'9' * 17}.a"):
        with pytest.raises(InputError, match="no job to go on after"):
            jobs.page(after=wrong, limit=1)


def test_oldest_first_and_groups_together(jobs: Jobs) -> None:
    for n in range(4):
        jobs.submit(request(n, group="" if n == 1 else "g"))
    assert [lease.job.inputs["n"] for lease in take(jobs)] == [0, 2, 3]
    assert [lease.job.inputs["n"] for lease in take(jobs)] == [1]


def test_cancel(jobs: Jobs) -> None:
    waiting = jobs.submit(request(1))
    assert jobs.cancel(waiting.id).state == "cancelled"
    assert take(jobs) == []
    assert jobs.submit(request(1)).state == "queued"
    (lease,) = take(jobs)
    assert jobs.cancel(waiting.id).state == "running"
    with pytest.raises(Stopped):
        lease.renew()
    with pytest.raises(Stopped):
        progress_of([lease])(1, 3)
    lease.give_up()
    assert jobs.get(waiting.id).state == "cancelled"
    with pytest.raises(NotFoundError):
        jobs.cancel("0" * 64)


def test_a_cancelled_job_whose_worker_is_gone_ends_at_the_next_look(jobs: Jobs, clock: ShiftedFolder) -> None:
    asked = jobs.submit(request())
    take(jobs)
    jobs.cancel(asked.id)
    clock.ahead += LEASE_S + 1
    assert take(jobs) == []
    assert jobs.get(asked.id).state == "cancelled"


@pytest.mark.parametrize("error", [StorageError("full"), UnavailableError("away")])
def test_what_may_pass_is_tried_again_with_growing_pauses(jobs: Jobs, clock: ShiftedFolder, error: Exception) -> None:
    asked = jobs.submit(request())
    for attempt in range(1, MOST_ATTEMPTS + 1):
        (lease,) = take(jobs)
        lease.fail(error)
        found = jobs.get(asked.id)
        assert (found.attempts, found.error) == (attempt, str(error))
        if attempt < MOST_ATTEMPTS:
            assert (found.state, take(jobs)) == ("queued", [])
            clock.ahead += 2.0**attempt + 0.1
    assert (found.state, found.code) == ("failed", error.code)  # type: ignore[attr-defined]
    assert jobs.submit(request()).state == "queued"
    assert [pause(1) <= 2, 2 <= pause(3) <= 8, pause(50) <= 300] == [True] * 3


def test_what_does_not_pass_fails_at_once_and_what_was_not_foreseen_too(jobs: Jobs) -> None:
    for n, error, code in ((1, MismatchError("no"), "mismatch"), (2, ZeroDivisionError("oh"), "error")):
        asked = jobs.submit(request(n))
        (lease,) = take(jobs)
        lease.fail(error, result={"part": "x"})
        found = jobs.get(asked.id)
        assert (found.state, found.code, found.result) == ("failed", code, {"part": "x"})


def test_a_job_that_brings_its_workers_down_is_given_up(jobs: Jobs, clock: ShiftedFolder) -> None:
    first, second = jobs.submit(request(1, group="g")), jobs.submit(request(2, group="g"))
    assert len(take(jobs)) == 2
    for _ in range(MOST_ATTEMPTS - 1):
        clock.ahead += LEASE_S + 1
        # What was tried before is tried alone.
        assert [len(take(jobs)), len(take(jobs)), len(take(jobs))] == [1, 1, 0]
    clock.ahead += LEASE_S + 1
    assert take(jobs) == []
    for asked in (first, second):
        found = jobs.get(asked.id)
        assert found.state == "failed"
        assert "5 workers" in (found.error or "")


def test_one_of_a_group_fails_alone(jobs: Jobs) -> None:
    asked = [jobs.submit(request(n, group="g")) for n in range(3)]
    sizes = []

    def handle(leases: Sequence[Lease]) -> None:
        sizes.append(len(leases))
        for lease in leases:
            if lease.job.inputs["n"] == 1:
                raise MemoryError("does not fit")
        for lease in leases:
            lease.succeed({})

    worker = Worker(jobs, {"explain": handle})
    assert (worker.step(), worker.step()) == (True, False)
    assert sizes == [3, 1, 1, 1]
    assert [jobs.get(job.id).state for job in asked] == ["succeeded", "failed", "succeeded"]


def test_a_worker_that_shall_end_gives_its_job_back(jobs: Jobs) -> None:
    asked = jobs.submit(request())

    def handle(leases: Sequence[Lease]) -> None:
        leases[0].report(1, 3)
        worker.stop()
        # At once, and not only when a handler that computes for long looks up.
        found = jobs.get(asked.id)
        assert (found.state, found.attempts, found.done) == ("queued", 0, 1)
        with pytest.raises(Stopped):
            progress_of(leases)(2, 3)
        with pytest.raises(ConflictError):
            leases[0].succeed({})
        raise Stopped

    worker = Worker(jobs, {"explain": handle})
    worker.run()
    assert jobs.get(asked.id).state == "queued"
    assert worker.step() is True  # what a stopped worker takes by chance goes back untouched
    assert (jobs.get(asked.id).state, jobs.get(asked.id).attempts) == ("queued", 0)


def test_a_worker_outlives_a_store_that_is_away(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def away(**_: object) -> list[Lease]:
        calls.append(1)
        if len(calls) == 3:
            worker.stop()
        raise StorageError("away")

    monkeypatch.setattr(jobs, "take", away)
    worker = Worker(jobs, {}, pause_s=0.001)
    worker.run()
    assert len(calls) == 3


@pytest.fixture
def first_worker(clock: ShiftedFolder, jobs: Jobs) -> Callable[[], tuple[multiprocessing.process.BaseProcess, Connection, Job]]:
    def start() -> tuple[multiprocessing.process.BaseProcess, Connection, Job]:
        asked = jobs.submit(request())
        here, there = SPAWN.Pipe()
        process = SPAWN.Process(target=work_and_wait, args=(clock.root, there))
        process.start()
        there.close()  # so that a process that dies is an error here, not silence
        assert here.recv() == asked.id
        return process, here, asked

    return start


def finish_as_second(jobs: Jobs) -> list[str]:
    done = []

    def handle(leases: Sequence[Lease]) -> None:
        done.append(leases[0].id)
        leases[0].succeed({"by": "the second"})

    assert Worker(jobs, {"explain": handle}).step() is True
    return done


StartFirst = Callable[[], tuple[multiprocessing.process.BaseProcess, Connection, Job]]


def test_a_killed_workers_job_is_taken_up_by_another(jobs: Jobs, clock: ShiftedFolder, first_worker: StartFirst) -> None:
    process, _, asked = first_worker()
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert take(jobs) == []  # the lease still holds
    clock.ahead += 3601
    assert finish_as_second(jobs) == [asked.id]
    found = jobs.get(asked.id)
    assert (found.state, found.result, found.attempts) == ("succeeded", {"by": "the second"}, 2)
    assert take(jobs) == []


def test_a_late_workers_result_is_refused(jobs: Jobs, clock: ShiftedFolder, first_worker: StartFirst) -> None:
    process, pipe, asked = first_worker()
    os.kill(process.pid or 0, signal.SIGSTOP)
    clock.ahead += 3601
    finish_as_second(jobs)
    os.kill(process.pid or 0, signal.SIGCONT)
    pipe.send("go on")
    assert pipe.recv() == "over"
    process.join()
    found = jobs.get(asked.id)
    assert (found.state, found.result, found.attempts) == ("succeeded", {"by": "the second"}, 2)


@pytest.mark.slow
def test_of_many_workers_one_gets_each_job(jobs: Jobs, clock: ShiftedFolder) -> None:
    asked = {jobs.submit(request(n)).id for n in range(6)}
    with SPAWN.Pool(3) as pool:
        taken = pool.map(take_all, [clock.root] * 3)
    assert sorted(each for some in taken for each in some) == sorted(asked)

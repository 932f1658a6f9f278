// Long work and how far it is, live.

import { useEffect, useState } from "preact/hooks";
import { cancel, follow, list } from "../api";
import { Failure, Show, useLoad } from "../load";
import { link } from "../route";
import { when } from "../words";
import type { Job, JobState } from "../wire";

const LOOK_AGAIN_MS = 5000;
const ALIVE: readonly JobState[] = ["queued", "running"];
const RANK: Record<JobState, number> = { running: 0, queued: 1, failed: 2, cancelled: 3, succeeded: 4 };

export function Jobs({ base }: { base: string }) {
  const [found, again] = useLoad("jobs", (signal) => list<Job>("v1/jobs", [["limit", "500"]], signal));
  useEffect(() => {
    const timer = setInterval(() => document.hidden || again(), LOOK_AGAIN_MS);
    return () => clearInterval(timer);
  }, [again]);
  return (
    <>
      <h1>Jobs</h1>
      <p class="lead">Explaining and merging take seconds to minutes. What is at work here moves by itself.</p>
      <Show found={found} retry={again}>
        {({ items }) =>
          items.length === 0 ? (
            <p class="notice">
              No job yet. <code>xpert push</code> makes one for every pLLM.
            </p>
          ) : (
            <ul class="jobs">
              {[...items].sort(byUrgency).map((job) => (
                <JobRow key={job.id} job={job} base={base} />
              ))}
            </ul>
          )
        }
      </Show>
    </>
  );
}

function byUrgency(a: Job, b: Job): number {
  return RANK[a.state] - RANK[b.state] || b.updated.localeCompare(a.updated);
}

function JobRow({ job: listed, base }: { job: Job; base: string }) {
  const job = useLive(listed);
  const [trouble, setTrouble] = useState<unknown>(null);
  const alive = ALIVE.includes(job.state);
  const [where, name] = job.subject.includes("/") ? job.subject.split("/", 2) : [base, job.subject];
  return (
    <li class="card job">
      <div class="what">
        <span class={`badge ${job.state}`}>{job.state}</span>
        <b>{job.kind}</b> {job.kind === "space" ? job.subject : <a href={link(where ?? base, "pllms", name)}>{job.subject}</a>}
        {job.attempts > 1 && <span class="quiet">attempt {job.attempts}</span>}
      </div>
      <div class="how-far">
        {alive && <progress value={job.done} max={job.total || 1} aria-label={`Progress of ${job.kind} ${job.subject}`} />}
        {job.total > 0 && (
          <span class="quiet">
            {job.done} of {job.total} answers
          </span>
        )}
        {!alive && <time class="quiet" dateTime={job.updated}>{when(job.updated)}</time>}
        {alive && (
          <button type="button" onClick={() => cancel(job.id).then(() => setTrouble(null), setTrouble)}>
            Cancel<span class="hidden"> {job.subject}</span>
          </button>
        )}
      </div>
      {job.error && <p class="error">{job.error}</p>}
      {trouble !== null && <Failure error={trouble} />}
    </li>
  );
}

/** Follows a job while it is alive; where events do not come, the list that is read again shows how far it is. */
function useLive(listed: Job): Job {
  const [heard, setHeard] = useState<Job | null>(null);
  const alive = ALIVE.includes(listed.state);
  useEffect(() => {
    if (!alive) return;
    const control = new AbortController();
    follow(listed.id, setHeard, control.signal).catch(() => undefined);
    return () => control.abort();
  }, [listed.id, alive]);
  return heard && heard.updated >= listed.updated ? heard : listed;
}

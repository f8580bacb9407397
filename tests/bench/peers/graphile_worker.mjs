// migrate: installs graphile-worker's schema. drain JOBS OPTIONS MS: runs that many jobs, each for that long, then prints the database's clock at the
// claim of the first and when a second connection first found the jobs table empty: the worker deletes what it completed, so
// no row is left to read that time from. enqueue JOBS CHUNK: fills the queue in one transaction and prints the seconds.
// stamps JOBS OPTIONS: says "ready", runs that many jobs, and prints when each started. The database is found through PGHOST and its kind.
import { EventEmitter } from "node:events";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

process.env.NO_LOG_SUCCESS = "1"; // a line a job is no part of the work
const [modules, command, jobs, option, milliseconds] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { makeWorkerUtils, run, runMigrations, runOnce } = await load("graphile-worker");
const { default: pg } = await load("pg");

async function drain(expected, worker, milliseconds) {
  const observer = new pg.Client();
  await observer.connect();
  const events = new EventEmitter();
  let claimed;
  events.once("job:start", ({ job }) => (claimed = job.locked_at));

  let emptied;
  const watch = async () => {
    for (;;) {
      const { rows } = await observer.query(
        "select clock_timestamp() as at, exists (select from graphile_worker._private_jobs) as waiting",
      );
      if (!rows[0].waiting) return rows[0].at;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  };
  let started = 0;
  const noop = async ({ n }) => {
    if (++started === expected) emptied = watch();
    if (milliseconds) await sleep(milliseconds);
  };
  await runOnce({ preset: { worker }, events, noHandleSignals: true, taskList: { noop } });
  if (started !== expected) throw new Error(`${started} of ${expected} jobs were run`);
  console.log(JSON.stringify({ seconds: ((await emptied) - claimed) / 1000 }));
  await observer.end();
}

async function enqueue(count, chunk) {
  const pool = new pg.Pool({ max: 1 });
  const utils = await makeWorkerUtils({ pgPool: pool });
  const numbers = Array.from({ length: count }, (_, n) => n);
  const began = performance.now();
  await pool.query("begin");
  for (let start = 0; start < count; start += chunk) {
    await utils.addJobs(numbers.slice(start, start + chunk).map((n) => ({ identifier: "noop", payload: { n } })));
  }
  await pool.query("commit");
  console.log(JSON.stringify({ seconds: (performance.now() - began) / 1000 }));
  await utils.release();
  await pool.end();
}

async function stamps(expected, worker) {
  const seen = [];
  const stamp = async ({ n }) => {
    const at = Number(process.hrtime.bigint()) / 1e9;
    seen.push([n, at]);
    if (seen.length === expected) void runner.stop();
  };
  const runner = await run({ preset: { worker }, noHandleSignals: true, taskList: { stamp } });
  console.log("ready");
  await runner.promise;
  console.log(JSON.stringify(seen));
}

if (command === "migrate") await runMigrations({ preset: { worker: {} } });
else if (command === "enqueue") await enqueue(Number(jobs), Number(option));
else if (command === "stamps") await stamps(Number(jobs), JSON.parse(option));
else await drain(Number(jobs), JSON.parse(option), Number(milliseconds));

// A real server for the checks: `target/debug/xtask serve` on a free port of the loopback.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import path from "node:path";

export const ROOT = path.resolve(import.meta.dirname, "../../..");
const RUN = process.env.RUN ?? path.join(ROOT, "artifacts/runs/mini");

// Starts it with base, sft and dpo, the classifier and the report of a run. `preferences` is the folder
// of choices, `keys` what is asked for, `port` 0 for a free one.
export async function serve({ preferences, keys = "", port = 0, sets = [] }) {
  if (!existsSync(path.join(RUN, "dpo/adapter"))) {
    throw new Error(`${RUN} is no finished run: cargo xtask pipeline makes one; RUN names another`);
  }
  const report = path.join(RUN, "evaluate/report.html");
  const settings = [
    `playground.preferences=${preferences}`,
    `playground.report=${report}`,
    ...sets,
  ];
  const args = [
    "serve",
    ...["--port", String(port)],
    ...["sft", "dpo"].flatMap((name) => ["--adapter", `${name}=${RUN}/${name}/adapter`]),
    ...["--classifier", path.join(RUN, "classifier")],
    ...settings.flatMap((setting) => ["--set", setting]),
  ];
  const xtask = process.env.XTASK ?? path.join(ROOT, "target/debug/xtask");
  const server = spawn(xtask, args, { cwd: ROOT, env: { ...process.env, CAI_API_KEYS: keys } });
  let log = "";
  server.stderr.on("data", (text) => (log += text));
  const url = await new Promise((resolve, reject) => {
    let out = "";
    server.stdout.on("data", (text) => {
      out += text;
      const found = out.match(/listening on (http:\S+)/);
      if (found) resolve(`${found[1]}/`);
    });
    server.on("exit", () => reject(new Error(`the server did not start:\n${log}`)));
  });
  while (!(await fetch(`${url}readyz`)).ok) await new Promise((done) => setTimeout(done, 100));
  const stop = async () => {
    if (server.exitCode !== null) return;
    server.kill("SIGTERM");
    await once(server, "exit");
  };
  return { url, stop, log: () => log };
}

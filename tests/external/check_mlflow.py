"""Checks the MLflow tracker against MLflow itself: a server on the loopback, a short run of SFT, and every logged
number asked back from the server. Then a run that begins without a server, and is sent when there is one.
README.md beside this says how to run it.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# Nine processes that only traces and prompts need.
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(folder, port):
    """An MLflow server, once it answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(server, f"http://127.0.0.1:{port}/health")
    return server


def wait_for(server, address):
    """Until a server answers."""
    for _ in range(600):
        try:
            urllib.request.urlopen(address, timeout=1)
            return
        except OSError:
            assert server.poll() is None, "the server ended"
            time.sleep(0.5)
    server.terminate()
    raise SystemExit(f"{address} does not answer")


def train(xtask, folder, port, out):
    data = Path(folder) / "data.jsonl"
    turns = lambda i: [{"role": "user", "content": f"What is {i}?"}, {"role": "assistant", "content": f"It is {i}."}]
    data.write_text("".join(json.dumps({"messages": turns(i)}) + "\n" for i in range(40)))
    settings = [f"sft.train.tracking.mlflow=http://127.0.0.1:{port}", "sft.train.tracking.experiment=check",
                "sft.train.max_steps=4", "sft.train.logging_steps=1", "sft.train.eval_steps=2", "sft.held_out=0.2"]
    sets = [word for setting in settings for word in ("--set", setting)]
    command = [xtask, "--quiet", "sft", "--data", str(data), "--out", str(out), *sets]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def compare(port, out):
    """Asks for every metric of metrics.jsonl; returns how many were compared."""
    from mlflow import MlflowClient

    run_id = json.loads((out / "mlflow.json").read_text())["run_id"]
    client = MlflowClient(f"http://127.0.0.1:{port}")
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED", run.info.status
    assert run.data.params["train.max_steps"] == "4", run.data.params
    assert len(run.data.tags["cai.fingerprint"]) == 64
    count = 0
    for line in (out / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        step = entry.pop("step")
        entry.pop("epoch")
        for name, value in entry.items():
            found = [metric.value for metric in client.get_metric_history(run_id, name) if metric.step == step]
            assert found == [value], (name, step, found, value)
            count += 1
    assert not (out / "mlflow-spool.jsonl").exists()
    return count


def main():
    xtask = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        port, out = free_port(), Path(folder) / "with-server"
        server = serve(folder, port)
        try:
            train(xtask, folder, port, out)
            print("with a server:", compare(port, out), "numbers are the same")
        finally:
            server.terminate()
            server.wait()
        port, out = free_port(), Path(folder) / "without-server"
        train(xtask, folder, port, out)
        assert (out / "mlflow-spool.jsonl").exists()
        server = serve(folder, port)
        try:
            train(xtask, folder, port, out)
            print("sent later:", compare(port, out), "numbers are the same")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()

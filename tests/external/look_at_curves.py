"""Opens a run in TensorBoard's and MLflow's own pages and looks at them: a short run of SFT, both servers on the
loopback, Chromium. The names of the scalars must stand on the pages. Pictures of the pages are kept, for people to
look at too. README.md beside this says how to run it.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from check_mlflow import free_port, serve, wait_for

NAMES = ["loss", "eval_loss", "grad_norm", "learning_rate", "mean_token_accuracy"]


def train(xtask, folder, mlflow):
    data, out = Path(folder) / "data.jsonl", Path(folder) / "run"
    pair = lambda i: {"prompt": f"What is {i}?", "completion": f"It is {i}."}
    data.write_text("".join(json.dumps(pair(i)) + "\n" for i in range(400)))
    settings = [f"sft.train.tracking.mlflow=http://127.0.0.1:{mlflow}", "sft.train.tracking.experiment=curves",
                "sft.train.max_steps=40", "sft.train.logging_steps=1", "sft.train.eval_steps=5", "sft.held_out=0.1"]
    sets = [word for setting in settings for word in ("--set", setting)]
    subprocess.run([xtask, "--quiet", "sft", "--data", str(data), "--out", str(out), *sets], check=True)
    return out


def look(browser, address, names, picture):
    """Waits until all names are visible on a page, and keeps a picture of it."""
    page = browser.new_page(viewport={"width": 1400, "height": 1900})
    page.goto(address)
    # A page may break a name between its parts.
    there = "names => names.every(name => document.body.innerText.replace(/\\s/g, '').includes(name))"
    page.wait_for_function(there, arg=names, timeout=180_000)
    # Curves are drawn after their titles.
    page.wait_for_timeout(10_000)
    page.screenshot(path=picture)
    page.close()
    print(f"{address.split('#')[0]}: {', '.join(names)} are on the page; {picture}")


def tensorboard(browser, out, pictures):
    port = free_port()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(out / "tensorboard"), "--host", "127.0.0.1",
               "--port", str(port), "--load_fast=false"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(server, f"http://127.0.0.1:{port}/")
        names = [f"{name.replace('_', '/', 1)}" if name.startswith("eval_") else f"train/{name}" for name in NAMES]
        look(browser, f"http://127.0.0.1:{port}/#timeseries", names, pictures / "tensorboard.png")
    finally:
        server.terminate()
        server.wait()


def mlflow(browser, port, out, pictures):
    from mlflow import MlflowClient

    run = json.loads((out / "mlflow.json").read_text())["run_id"]
    experiment = MlflowClient(f"http://127.0.0.1:{port}").get_run(run).info.experiment_id
    address = f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs/{run}"
    look(browser, address, [*NAMES, "train.learning_rate", "cai.fingerprint"], pictures / "mlflow-run.png")
    look(browser, f"{address}/model-metrics", NAMES, pictures / "mlflow-curves.png")


def main():
    xtask, pictures = sys.argv[1], Path(sys.argv[2])
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        port = free_port()
        server = serve(folder, port)
        try:
            out = train(xtask, folder, port)
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            tensorboard(browser, out, pictures)
            mlflow(browser, port, out, pictures)
            browser.close()
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()

"""Acts out the Deployment of deploy/k8s on one machine: starts the server with the arguments of the manifest, probes it
as Kubernetes would, asks it with and without a key, looks for the autoscaler's metric, runs the image's health check,
and stops it with the signals that Kubernetes and Docker send.

    python act_out_server.py XTASK
"""

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from manifests import ROOT, find, pod_spec, render

XTASK = Path(sys.argv[1]).resolve()
DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text()
KEY = "sk-acted-out"


def get(url, body=None, key=None):
    """Status and text of a response."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url, headers=headers, data=body and json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return None, ""


def act_out(stop):
    objects = render("overlays/cpu")
    pod = pod_spec(find(objects, "Deployment"))
    [container] = pod["containers"]
    [port] = [p["containerPort"] for p in container["ports"]]
    with tempfile.TemporaryDirectory() as folder:
        volumes = {"/data": f"{folder}/data", "/preferences": f"{folder}/data/preferences",
                   "/etc/cai/api-keys": f"{folder}/keys"}
        assert volumes.keys() | {"/tmp"} == {mount["mountPath"] for mount in container["volumeMounts"]}
        (Path(folder) / "data/models").mkdir(parents=True)
        (Path(folder) / "data/models/mini-gemma").symlink_to(ROOT / "artifacts/models/mini-gemma")
        (Path(folder) / "data/preferences").mkdir()
        (Path(folder) / "keys").mkdir()
        (Path(folder) / "keys/keys").write_text(KEY + "\n")
        # The loopback only: this machine may have neighbours.
        args = [arg.replace("0.0.0.0", "127.0.0.1").replace("$(POD_NAME)", "pod-0") for arg in container["args"]]
        for inside, outside in volumes.items():
            args = [arg.replace(f"={inside}", f"={outside}") for arg in args]
        server = subprocess.Popen([XTASK, *args], cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            check(server, container, f"http://127.0.0.1:{port}")
            begin = time.monotonic()
            server.send_signal(stop)
            assert server.wait(pod["terminationGracePeriodSeconds"]) == 0
            print(f"{stop.name}: exit 0 after {time.monotonic() - begin:.1f} s")
        finally:
            server.kill()


def check(server, container, url):
    startup = container["startupProbe"]
    for _ in range(startup["failureThreshold"]):
        if get(url + startup["httpGet"]["path"])[0] == 200:
            break
        assert server.poll() is None, "the server ended"
        time.sleep(startup["periodSeconds"] / 10)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert get(url + container[probe]["httpGet"]["path"])[0] == 200, probe

    question = {"model": "base", "messages": [{"role": "user", "content": "How do I bake bread?"}], "max_tokens": 16}
    assert get(f"{url}/v1/chat/completions", question)[0] == 401
    status, answer = get(f"{url}/v1/chat/completions", question, KEY)
    assert status == 200 and json.loads(answer)["choices"][0]["message"]["content"], answer

    metrics = get(url + "/metrics")[1]
    docs = (ROOT / "docs/deploy.md").read_text()
    names = set(re.findall(r"\bcai_[a-z_]+", docs)) - {"cai_time_to_first_token_seconds_bucket"}
    missing = [name for name in sorted(names) if name not in metrics]
    assert "cai_queue_length" in names and not missing, missing

    [health] = re.findall(r"HEALTHCHECK .*\\\n\s+CMD (\[.+\])", DOCKERFILE)
    health = json.loads(health)
    assert subprocess.run(health).returncode == 0
    nobody = [part.replace("8000", "1") for part in health]
    assert subprocess.run(nobody, stderr=subprocess.DEVNULL).returncode != 0
    print(f"probes, key, answer, health check of the image, {len(names)} metrics of docs/deploy.md")


# What Kubernetes sends is the image's own signal.
[image_signal] = re.findall(r"^STOPSIGNAL (\w+)$", DOCKERFILE, re.MULTILINE)
for stop in {signal.SIGTERM, signal.Signals[image_signal]}:
    act_out(stop)
print("ok")

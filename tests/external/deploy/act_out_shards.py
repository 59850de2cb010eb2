"""Acts out the sharded jobs of deploy/k8s on one machine: reads the commands from the manifests, sets the variables
that Kubernetes would set, runs all shards at once while the merge's first container waits for them, then the merge.
On the way one shard is killed and one is told to stop, and each is begun again, as Kubernetes would. The result must
be byte-equal to one process without shards.

    python act_out_shards.py XTASK
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from manifests import ROOT, find, pod_spec, render

XTASK = Path(sys.argv[1]).resolve()
# 13 blocks of 32, so that the shards have several, and not the same number.
PROMPTS = [f"How do I {verb} {thing}{when}?"
           for verb in ("clean", "fix", "sell", "move", "hide", "paint", "lock", "steal", "find", "store")
           for thing in ("a bicycle", "a door", "a boat", "a piano", "a lamp", "a ladder",
                         "a fence", "a car", "a pump", "a safe")
           for when in ("", " at night", " in a hurry", " without help")]


def write_volume(data):
    """What the volume holds before the job."""
    (data / "models").mkdir(parents=True)
    (data / "models/mini-gemma").symlink_to(ROOT / "artifacts/models/mini-gemma")
    (data / "prompts").mkdir()
    (data / "prompts/red_team.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS))


class Container:
    """A container of a pod, as a process: same command, same environment, the volume in another place."""

    def __init__(self, objects, pod, container, data, index=None):
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        environment = {}
        for source in container["envFrom"]:
            environment |= find(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
        if index is not None:
            environment["JOB_COMPLETION_INDEX"] = str(index)
        environment = {name: value.replace(mounts["data"], str(data), 1) for name, value in environment.items()}
        # As Kubernetes does: $(NAME) of a variable that is set; anything else stays.
        expand = lambda text: re.sub(r"\$\((\w+)\)", lambda m: environment.get(m[1], m[0]), text)
        self.command = [*container.get("command", [str(XTASK)]), *map(expand, container["args"])]
        self.environment = {"PATH": os.environ["PATH"], "HOME": "/tmp", **environment}

    def start(self):
        return subprocess.Popen(self.command, cwd=ROOT, env=self.environment)

    def run(self):
        subprocess.run(self.command, cwd=ROOT, env=self.environment, check=True)


def wait_for_a_block(shard, part):
    """Until the shard has written its first block and works on the next."""
    while not part.exists() or part.stat().st_size == 0:
        assert shard.poll() is None, "the shard ended before it was interrupted; give it more prompts"
        time.sleep(0.02)


def act_out(name):
    objects = render(f"jobs/{name}")
    shards, merge = find(objects, "Job", f"{name}-shards"), find(objects, "Job", f"{name}-merge")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_volume(data)
        pod = pod_spec(merge)
        wait, put_together = (Container(objects, pod, c, data) for c in pod["initContainers"] + pod["containers"])
        pod = pod_spec(shards)
        pods = [Container(objects, pod, pod["containers"][0], data, i) for i in range(shards["spec"]["completions"])]

        waiting = wait.start()
        begin = time.monotonic()
        running = [pod.start() for pod in pods]
        out = Path(wait.environment["OUT"])
        records = wait.environment["RECORDS"]
        # 0: the node is lost. 1: the node is drained, and the runtime sends the image's stop signal.
        for index, stop in [(0, signal.SIGKILL), (1, signal.SIGINT)]:
            wait_for_a_block(running[index], out / f"shards/{records}-{index}-of-{len(pods)}.jsonl.part")
            running[index].send_signal(stop)
            assert running[index].wait(120) != 0, "it was told to stop, and says that it finished"
            assert waiting.poll() is None, "the merge began before the shards were there"
            running[index] = pods[index].start()
        assert [process.wait() for process in running] == [0] * len(pods)
        assert waiting.wait(60) == 0
        put_together.run()
        seconds = time.monotonic() - begin

        whole = out.with_name("one-process")
        command = [word for word in pods[0].command if not word.startswith(("--shard=", "--out="))]
        subprocess.run([*command, f"--out={whole}"], cwd=ROOT, check=True)
        shutil.rmtree(out / "shards")
        files = lambda folder: {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        one, merged = files(whole), files(out)
        assert one.keys() == merged.keys(), (one.keys(), merged.keys())
        different = [str(path) for path in one if one[path] != merged[path]]
        assert not different, different
        print(f"{name}: {len(pods)} shards, one killed, one stopped, merged in {seconds:.0f} s: "
              f"{len(one)} files byte-equal to one process: {', '.join(sorted(map(str, one)))}")


for job in ["critique", "feedback"]:
    act_out(job)

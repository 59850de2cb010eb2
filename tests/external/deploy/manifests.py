"""The manifests of deploy/k8s, as `kubectl apply -k` would send them."""

import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/k8s"
# What a reader applies; the rest is built from.
APPLIED = ["common", "overlays/cpu", "overlays/gpu", "jobs/upload", "jobs/download", "jobs/critique", "jobs/feedback"]


def render(name, folder=FOLDER):
    """The objects of one kustomization."""
    command = ["kubectl", "kustomize", str(folder / name)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return list(yaml.safe_load_all(text))


def find(objects, kind, name=None):
    """The one object of this kind, or of this kind and name."""
    [found] = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    return found


def pod_spec(thing):
    """The pods that an object makes, or None."""
    return thing["spec"] if thing["kind"] == "Pod" else thing.get("spec", {}).get("template", {}).get("spec")


def containers(pod):
    return pod.get("initContainers", []) + pod["containers"]

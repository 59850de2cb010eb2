"""Checks the manifests of deploy/k8s: against the schemas of Kubernetes, against Checkov's policies, and against one
another. README.md in the folder above says how to run it; it needs kubectl, and no cluster.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from manifests import APPLIED, FOLDER, ROOT, containers, find, pod_spec, render

VERSIONS = ["1.30", "1.32", "1.34", "1.37"]
TOOLS = Path(sys.executable).parent
# Checkov's policies that do not hold, each with the reason; the second says for which object, None for all.
ALLOWED = {
    ("CKV_K8S_43", None): "an image has a digest once it is pushed: images/ is where to write it",
    ("CKV_K8S_15", None): "tags are not used twice, and a cluster of one node may have loaded the image by hand",
    ("CKV_K8S_8", "Pod.cai.cai-upload"): "the pod sleeps",
    ("CKV_K8S_9", "Pod.cai.cai-upload"): "the pod sleeps",
}


def check_schemas(rendered):
    for version in VERSIONS:
        command = [TOOLS / "kubernetes-validate", "--strict", "--quiet", "--kubernetes-version", version, *rendered]
        subprocess.run(command, check=True)
    print(f"schemas: {len(rendered)} kustomizations, strict, Kubernetes {', '.join(VERSIONS)}")


def check_policies(rendered):
    files = [word for path in rendered for word in ("-f", path)]
    command = [TOOLS / "checkov", "--framework", "kubernetes", "--skip-download", "-o", "json", *files]
    report = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    failed = {(check["check_id"], check["resource"]) for check in report["results"]["failed_checks"]}
    unexpected = [f for f in sorted(failed) if f not in ALLOWED and (f[0], None) not in ALLOWED]
    assert not unexpected, unexpected
    summary = report["summary"]
    print(f"policies: {summary['passed']} passed, {summary['failed']} failed for a reason that is written down")


def check_references(name, objects):
    """What is named is there: volumes, config maps, ports, selectors; all in the one namespace."""
    there = {(o["kind"], o["metadata"]["name"]) for o in objects + render("common")}
    # Made by hand, because they are secret.
    there |= {("Secret", "cai-api-keys"), ("Secret", "cai-hub-token")}
    for thing in objects:
        assert thing["kind"] == "Namespace" or thing["metadata"]["namespace"] == "cai", (name, thing["metadata"])
        pod = pod_spec(thing)
        if pod is None:
            continue
        assert ("ServiceAccount", pod["serviceAccountName"]) in there
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for volume in volumes.values():
            claim = volume.get("persistentVolumeClaim")
            assert claim is None or ("PersistentVolumeClaim", claim["claimName"]) in there
            assert "secret" not in volume or ("Secret", volume["secret"]["secretName"]) in there
        for container in containers(pod):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
            for source in container.get("envFrom", []):
                assert ("ConfigMap", source["configMapRef"]["name"]) in there


def check_server(name, objects):
    deployment = find(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    pod = pod_spec(deployment)
    [container] = pod["containers"]
    ports = {port["name"] for port in container["ports"]}
    for selector in [
        deployment["spec"]["selector"]["matchLabels"],
        find(objects, "Service")["spec"]["selector"],
        find(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        find(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]:
        assert selector.items() <= labels.items(), selector
    assert find(objects, "Service")["spec"]["ports"][0]["targetPort"] in ports
    assert all(container[probe]["httpGet"]["port"] in ports for probe in
               ("startupProbe", "readinessProbe", "livenessProbe"))
    assert "replicas" not in deployment["spec"], "the autoscaler's number would be overwritten"

    # Kubernetes waits until the server has finished what runs.
    [grace] = [float(arg.split("=")[2]) for arg in container["args"] if "connections.grace_seconds=" in arg]
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= before + grace + 5

    # The autoscaler's metric is the one that the adapter makes of the server's.
    [metric] = find(objects, "HorizontalPodAutoscaler")["spec"]["metrics"]
    [rule] = yaml.safe_load((FOLDER / "monitoring/prometheus-adapter.yaml").read_text())["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    assert rule["seriesQuery"].startswith(rule["name"]["matches"] + "{")
    print(f"{name}: selectors, ports, {grace:.0f} s of grace, metric of the autoscaler")


def check_shards(name, objects):
    settings = find(objects, "ConfigMap")["data"]
    [shards] = [o for o in objects if o["kind"] == "Job" and o["spec"].get("completionMode") == "Indexed"]
    assert str(shards["spec"]["completions"]) == settings["SHARDS"], "completions and SHARDS differ"
    [container] = pod_spec(shards)["containers"]
    assert "--shard=$(JOB_COMPLETION_INDEX)/$(SHARDS)" in container["args"]
    for job in (o for o in objects if o["kind"] == "Job"):
        for container in containers(pod_spec(job)):
            names = set(re.findall(r"\$\((\w+)\)", " ".join(container["args"])))
            assert names <= settings.keys() | {"JOB_COMPLETION_INDEX"}, names
    print(f"{name}: {settings['SHARDS']} shards, every variable is set")


def check_docs(folder):
    """The overlay that docs/deploy.md shows, and the paths that it names."""
    text = (ROOT / "docs/deploy.md").read_text()
    [(name, overlay)] = re.findall(r"```yaml\n# deploy/k8s/(\S+)/kustomization.yaml\n(.+?)```", text, re.DOTALL)
    copy = Path(folder) / "k8s"
    shutil.copytree(FOLDER, copy)
    (copy / name).mkdir()
    (copy / name / "kustomization.yaml").write_text(overlay)
    objects = render(name, copy)
    check_references(name, objects)
    [container] = pod_spec(find(objects, "Deployment"))["containers"]
    assert sum(arg.startswith("--model=") for arg in container["args"]) == 1, container["args"]
    paths = set(re.findall(r"deploy/[\w./-]*\w", text)) - {f"deploy/k8s/{name}/kustomization.yaml"}
    missing = [path for path in sorted(paths) if not (ROOT / path).exists()]
    assert not missing, missing
    print(f"docs/deploy.md: its overlay, and {len(paths)} paths")


def main():
    with tempfile.TemporaryDirectory() as folder:
        rendered = []
        for name in APPLIED:
            objects = render(name)
            path = Path(folder) / f"{name.replace('/', '-')}.yaml"
            path.write_text(yaml.safe_dump_all(objects))
            rendered.append(path)
            check_references(name, objects)
            if any(o["kind"] == "Deployment" for o in objects):
                check_server(name, objects)
            if any(o["spec"].get("completionMode") == "Indexed" for o in objects if "spec" in o):
                check_shards(name, objects)
        check_docs(folder)
        check_schemas(rendered)
        check_policies(rendered)
    print("ok")


main()

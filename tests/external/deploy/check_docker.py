"""Checks deploy/docker/Dockerfile without a Docker engine: the linters, that what it copies suffices to build, and that
the slim base has every library that the program links to.

    python check_docker.py XTASK        after cargo build -p xtask: XTASK.d beside it lists the sources of the build
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from manifests import ROOT

FOLDER = ROOT / "deploy/docker"
DOCKERFILE = FOLDER / "Dockerfile"
TOOLS = Path(sys.executable).parent
# glibc's and GCC's, which every Debian has (libc6 depends on libgcc-s1).
LIBRARIES = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"}
# Checkov's policies that do not hold, with the reason.
ALLOWED = {"CKV_DOCKER_7": "the base images are variables, each with tag and digest"}


def lint():
    subprocess.run([TOOLS / "hadolint", DOCKERFILE], check=True)
    command = [TOOLS / "checkov", "--framework", "dockerfile", "--skip-download", "-o", "json", "-f", DOCKERFILE]
    report = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    failed = {check["check_id"] for check in report["results"]["failed_checks"]}
    assert failed <= ALLOWED.keys(), failed
    images = re.findall(r"^ARG \w+=(\S+:\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert images and all(re.fullmatch(r"\w+:[\w.-]+@sha256:[0-9a-f]{64}", image) for image in images), images
    print(f"hadolint and Checkov; {len(images)} base images with tag and digest")


def context(folder):
    """Copies what the Dockerfile copies from the build context; the ignore file must let it through."""
    lines = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = [Path(line[1:]) for line in lines if line.startswith("!")]
    assert "*" in lines and all(line[0] in "!*#" for line in lines), "only exceptions to * are read here"
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(), re.MULTILINE):
        copied |= set(line.split()[:-1])
    for source in map(Path, sorted(copied)):
        assert any(source.is_relative_to(path) for path in allowed), f"{source} is ignored"
        target = folder / source
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / source).is_dir() else shutil.copy)(ROOT / source, target)
    unused = [str(path) for path in allowed if str(path) not in copied]
    assert not unused, f"let through and not copied: {unused}"
    return copied


def check_build(xtask):
    """The manifests agree with the lock file, and every source of the program is there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copied = context(folder)
        command = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1",
                   "--filter-platform", "x86_64-unknown-linux-gnu"]
        metadata = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
        members = len(json.loads(metadata)["workspace_members"])
        sources = xtask.with_suffix(".d").read_text().split(": ", 1)[1].split()
        missing = [source for source in sources if not (folder / Path(source).relative_to(ROOT)).exists()]
        assert not missing, missing
        print(f"{len(copied)} paths copied: {members} crates agree with Cargo.lock, {len(sources)} sources are there")


def check_libraries(xtask):
    section = subprocess.run(["readelf", "-d", xtask], check=True, capture_output=True, text=True).stdout
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", section))
    assert needed <= LIBRARIES, needed - LIBRARIES
    print(f"links to {', '.join(sorted(needed))}")


lint()
check_build(Path(sys.argv[1]).resolve())
check_libraries(Path(sys.argv[1]).resolve())
print("ok")

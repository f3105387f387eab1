"""Dockerfiles and the compose file: linted, built as they are, and run as the chart runs them.

Building needs root, buildah and mmdebstrap, some minutes and a gigabyte: `make test-images`.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import image_builds
import pytest
import yaml
from chart_containers import container_of
from chart_rendering import ROOT, Helm, only, skip_or_fail
from compose_spec import ComposeSpecification
from container_processes import started
from image_builds import Builder
from kubelet import DEADLINE_S, wait_until_ready

import mx
from mx.config import load_settings

DOCKERFILES = ("docker/Dockerfile", "docker/Dockerfile.client")


def program(name: str) -> str:
    """A linter that comes as a package: beside the interpreter, or in the path."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        skip_or_fail(f"needs {name}")
    return found or ""


@pytest.mark.parametrize("file", DOCKERFILES)
def test_hadolint_has_nothing_to_say(file: str) -> None:
    done = subprocess.run([program("hadolint"), ROOT / file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("file", ["charts/mx/deploy.sh"])
def test_shellcheck_has_nothing_to_say(file: str) -> None:
    done = subprocess.run([program("shellcheck"), ROOT / file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_build_takes_no_more_than_it_names() -> None:
    """A build context with a cache or an environment in it would be gigabytes."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied: set[str] = set()
    for file in DOCKERFILES:
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
            if line.startswith("COPY ") and "--from=" not in line:
                copied |= set(line.split()[1:-1])
    assert lines[1] == "*"
    assert allowed == copied


# --- compose --------------------------------------------------------------------------------------
def compose() -> dict[str, dict[str, dict[str, object]]]:
    text = (ROOT / "docker" / "docker-compose.yml").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, dict[str, object]]] = yaml.safe_load(text)
    return loaded


def test_the_compose_file_is_one() -> None:
    ComposeSpecification.model_validate(compose())


def test_compose_tells_the_server_what_mx_understands() -> None:
    services = compose()["services"]
    env = services["server"]["environment"]
    assert isinstance(env, dict)
    settings = load_settings(environ={**env, "HF_TOKEN": "", "NGC_API_KEY": ""}, cwd=Path("/"))
    assert settings.metadata.backend == "redis"
    assert settings.redis.url == "redis://redis:6379"
    assert "redis" in services
    assert float(str(services["server"]["stop_grace_period"]).removesuffix("s")) > settings.server.grace_s
    assert services["server"]["build"] == {
        "context": "..", "dockerfile": "docker/Dockerfile", "target": "server"
    }  # fmt: skip


# --- built ----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    skip_or_fail(image_builds.missing())
    builder = Builder(tmp_path_factory.mktemp("images"))
    try:
        builder.make_base()
        yield builder
    finally:
        builder.remove()


@pytest.mark.images
@pytest.mark.timeout(1800)
def test_the_images_build_and_the_chart_runs_in_them(builder: Builder, helm: Helm, tmp_path: Path) -> None:
    server = builder.build("Dockerfile", target="server")
    assert server.argv == ["mx", "server", "start"]
    assert server.config["User"] == "10001:10001"
    assert server.config["Healthcheck"]["Test"] == ["CMD", "mx", "health", "--quiet"]
    # Nothing of the build but what is installed.
    assert not (server.root / "src").exists()
    cli = builder.build("docker/Dockerfile", target="cli")
    assert cli.argv == ["mx", "--help"]
    rendered = helm.render({})
    deployment = only(rendered, "Deployment")
    with started(
        container_of(deployment, rendered, tmp_path / "volumes"), tmp_path / "server", image=server
    ) as running:
        wait_until_ready(running)
        # The image's own HEALTHCHECK, and the other image as a client.
        for number, (image, words) in enumerate(
            ((server, server.config["Healthcheck"]["Test"][1:]), (cli, ["mx", "server", "status"]))
        ):
            asked = only(rendered, "Pod")
            asked["spec"]["containers"][0] |= {"command": words, "args": []}
            folder = tmp_path / f"ask{number}"
            with started(
                container_of(asked, rendered, folder), folder, image=image, beside=running
            ) as asking:
                assert asking.process.wait(DEADLINE_S) == 0, asking.said()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(DEADLINE_S) == 0, running.said()
    assert (tmp_path / "volumes" / "data" / "models.db").exists()


@pytest.mark.images
@pytest.mark.timeout(1800)
def test_the_worker_image_builds_on_what_it_is_given(builder: Builder) -> None:
    """On the plain base: the build's own last steps say that vLLM would find the plugin."""
    image = builder.build("docker/Dockerfile.client", BASE=image_builds.BASE, EXTRAS="s3")
    found = list(image.root.glob(f"usr/**/modelexpress_mx-{mx.__version__}.dist-info"))
    assert len(found) == 1

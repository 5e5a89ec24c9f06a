"""The files of deploy/ are what their readers take, agree with each other and with the service's settings.

Kubernetes' own schemas come with kubernetes-validate, those of Compose and GitHub with check-jsonschema.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fovsfe.cli import app as commands
from fovsfe.service.problems import PROBLEM_TYPES
from fovsfe.service.settings import Settings

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SETTINGS = {name.upper() for name in Settings.model_fields}
DEFAULTS = Settings()
LABELS = {"app.kubernetes.io/name": "fovsfe"}


def manifest(name: str) -> Any:
    return yaml.safe_load((DEPLOY / "kubernetes" / f"{name}.yaml").read_text(encoding="utf-8"))


def pod() -> Any:
    return manifest("deployment")["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", ["1.31", "1.37"])
@pytest.mark.parametrize(
    "file", [file for file in MANIFESTS if file.stem != "kustomization"], ids=lambda file: str(file.stem)
)
def test_kubernetes_takes_each_manifest(file: Path, version: str) -> None:
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
        kubernetes_validate.validate(document, version, strict=True)


def test_kubernetes_schemas_find_a_mistyped_key() -> None:
    wrong = manifest("deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_kustomization_has_every_manifest_and_names_the_image() -> None:
    listed = manifest("kustomization")
    assert sorted([*listed["resources"], "kustomization.yaml"]) == [file.name for file in MANIFESTS]
    assert [image["name"] for image in listed["images"]] == [pod()["containers"][0]["image"]]


def test_manifests_mean_the_same_pods() -> None:
    deployment = manifest("deployment")
    assert deployment["spec"]["template"]["metadata"]["labels"] == LABELS
    assert deployment["spec"]["selector"]["matchLabels"] == LABELS
    assert manifest("service")["spec"]["selector"] == LABELS
    assert manifest("disruption")["spec"]["selector"]["matchLabels"] == LABELS
    assert manifest("network")["spec"]["podSelector"]["matchLabels"] == LABELS
    target = manifest("autoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (deployment["kind"], deployment["metadata"]["name"])
    assert manifest("autoscaler")["spec"]["minReplicas"] > manifest("disruption")["spec"]["maxUnavailable"]


RAY_JOB = yaml.safe_load((DEPLOY / "kuberay" / "rayjob.yaml").read_text(encoding="utf-8"))
RAY_GROUPS = [RAY_JOB["spec"]["rayClusterSpec"]["headGroupSpec"]]
RAY_GROUPS += RAY_JOB["spec"]["rayClusterSpec"]["workerGroupSpecs"]
RAY_TEMPLATES = [RAY_JOB["spec"]["submitterPodTemplate"], *(group["template"] for group in RAY_GROUPS)]
RAY_NETWORK = yaml.safe_load((DEPLOY / "kuberay" / "network.yaml").read_text(encoding="utf-8"))
RAY_DOCKERFILE = (DEPLOY / "kuberay" / "Dockerfile").read_text(encoding="utf-8")


def test_the_ray_job_has_documented_keys_only() -> None:
    # https://ray-project.github.io/kuberay/reference/api/
    assert (RAY_JOB["apiVersion"], RAY_JOB["kind"]) == ("ray.io/v1", "RayJob")
    spec = RAY_JOB["spec"]
    assert spec.keys() == {
        "entrypoint",
        "backoffLimit",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "submitterPodTemplate",
        "rayClusterSpec",
    }
    assert spec["rayClusterSpec"].keys() == {
        "rayVersion",
        "enableInTreeAutoscaling",
        "autoscalerOptions",
        "headGroupSpec",
        "workerGroupSpecs",
    }
    assert spec["rayClusterSpec"]["autoscalerOptions"].keys() == {"securityContext", "resources"}
    head, *workers = RAY_GROUPS
    assert head.keys() == {"rayStartParams", "template"}
    for group in workers:
        keys = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
        assert group.keys() == keys
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


RAY_PODS = pytest.mark.parametrize("template", RAY_TEMPLATES, ids=["submitter", "head", "gpu"])


@pytest.mark.parametrize("version", ["1.31", "1.37"])
@RAY_PODS
def test_kubernetes_takes_the_pods_of_the_ray_job(template: Any, version: str) -> None:
    a_pod = {"apiVersion": "v1", "kind": "Pod", **template}
    a_pod["metadata"] = {"name": "a", **template["metadata"]}
    kubernetes_validate.validate(a_pod, version, strict=True)
    a_pod["spec"]["securityContext"]["runAsNonRoott"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(a_pod, version, strict=True)
    del a_pod["spec"]["securityContext"]["runAsNonRoott"]
    (container,) = a_pod["spec"]["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in a_pod["spec"]["volumes"]
    }


@RAY_PODS
def test_the_pods_of_the_ray_job_are_confined_as_the_service_is(template: Any) -> None:
    spec = template["spec"]
    (container,) = spec["containers"]
    assert container["securityContext"] == pod()["containers"][0]["securityContext"]
    assert spec["securityContext"] == pod()["securityContext"] | {"fsGroup": 10001}
    assert f"USER {spec['securityContext']['runAsUser']}:" in RAY_DOCKERFILE
    assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
    assert spec["enableServiceLinks"] is False
    # Only the head's autoscaler asks Kubernetes for anything.
    assert spec.get("automountServiceAccountToken", container["name"] == "ray-head") is (
        container["name"] == "ray-head"
    )
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert "/tmp" in mounted  # the rest is read-only
    assert all("sizeLimit" in volume["emptyDir"] for volume in spec["volumes"])


def test_what_a_training_downloads_goes_to_a_volume() -> None:
    environ = dict(re.findall(r"^(?:ENV| ) +([A-Z_]+)=(\S+)", RAY_DOCKERFILE, re.M))
    for template in RAY_TEMPLATES[1:]:
        mounted = [mount["mountPath"] for mount in template["spec"]["containers"][0]["volumeMounts"]]
        assert environ["HOME"] in mounted
        assert environ["FOVSFE_CACHE"].startswith(f"{environ['HOME']}/")


def test_the_autoscaler_of_the_ray_job_is_confined_too() -> None:
    options = RAY_JOB["spec"]["rayClusterSpec"]["autoscalerOptions"]
    assert options["securityContext"] == pod()["containers"][0]["securityContext"]
    assert options["resources"]["limits"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_only_the_pods_of_a_training_and_the_operator_reach_rays_ports(version: str) -> None:
    kubernetes_validate.validate(RAY_NETWORK, version, strict=True)
    spec = RAY_NETWORK["spec"]
    for template in RAY_TEMPLATES:
        assert template["metadata"]["labels"] == spec["podSelector"]["matchLabels"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    own, operator = spec["ingress"]
    assert own == {"from": [{"podSelector": spec["podSelector"]}]}
    (peer,) = operator["from"]
    assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}
    assert operator["ports"] == [{"port": 8265}]
    anywhere = [rule["ports"] for rule in spec["egress"] if "to" not in rule]
    assert anywhere == [[{"port": 443}, {"port": 6443}]]


def test_the_ray_job_names_the_ray_of_its_image() -> None:
    (version,) = re.findall(r"'ray\[default\]==([\d.]+)'", RAY_DOCKERFILE)
    assert RAY_JOB["spec"]["rayClusterSpec"]["rayVersion"] == version


def test_the_ray_job_calls_commands_with_options_that_there_are() -> None:
    shell, option, script = shlex.split(RAY_JOB["spec"]["entrypoint"])
    assert (shell, option) == ("sh", "-c")
    program: Any = typer.main.get_command(commands)
    for line in script.split("||"):
        name, subcommand, *arguments = shlex.split(line)
        assert name == "fovsfe"
        context = program.commands[subcommand].make_context(subcommand, arguments)
        assert context.params["cluster"] == "auto"


def test_every_port_is_the_services_own() -> None:
    (container,) = pod()["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": DEFAULTS.port}]
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    assert [(probe["path"], probe["port"]) for probe in probes] == [
        ("/readyz", "http"),
        ("/readyz", "http"),
        ("/healthz", "http"),
    ]
    (port,) = manifest("service")["spec"]["ports"]
    assert port["targetPort"] == "http"
    assert [rule["port"] for rule in manifest("network")["spec"]["ingress"][0]["ports"]] == ["http"]
    assert f"EXPOSE {DEFAULTS.port}" in DOCKERFILE
    assert f"server fovsfe:{DEFAULTS.port};" in (DEPLOY / "nginx/fovsfe.conf.template").read_text()


def test_pods_may_do_nothing_that_the_service_does_not() -> None:
    (container,) = pod()["containers"]
    assert pod()["securityContext"]["runAsNonRoot"]
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert f"USER {pod()['securityContext']['runAsUser']}:" in DOCKERFILE
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"] == "512Mi"
    assert manifest("network")["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in manifest("network")["spec"]  # nothing is let out


def test_visitors_reach_the_pages_and_no_figures() -> None:
    (rule,) = manifest("ingress")["spec"]["rules"]
    paths = {path["path"]: path["pathType"] for path in rule["http"]["paths"]}

    def reached(path: str) -> bool:
        return any(
            path == known or (kind == "Prefix" and path.startswith(f"{known}/"))
            for known, kind in paths.items()
        )

    for path in ("/", "/about", "/api/predict", "/api/model", "/docs", "/problems/busy", "/static/page.css"):
        assert reached(path), path
    for path in ("/metrics", "/healthz", "/readyz"):
        assert not reached(path), path


def test_time_to_stop_is_given() -> None:
    (container,) = pod()["containers"]
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod()["terminationGracePeriodSeconds"] > before + DEFAULTS.stop_seconds
    assert int(COMPOSE["services"]["fovsfe"]["stop_grace_period"].removesuffix("s")) > DEFAULTS.stop_seconds


def test_every_setting_that_is_set_exists_and_is_valid() -> None:
    set_here = {
        "compose": {
            name: re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", value)
            for name, value in COMPOSE["services"]["fovsfe"]["environment"].items()
            if value is not None
        },
        "kubernetes": {entry["name"]: entry["value"] for entry in pod()["containers"][0]["env"]},
        "heroku": {name: entry["value"] for name, entry in json_of("app.json")["env"].items()},
        "image": dict(re.findall(r"^ +([A-Z]\w+)=(\S+)", DOCKERFILE, re.M)),
    }
    for where, environ in set_here.items():
        assert environ.keys() <= SETTINGS, where
        Settings.read(environ)


def test_compose_passes_on_every_setting() -> None:
    environment = COMPOSE["services"]["fovsfe"]["environment"]
    # What nginx connects to, which the image sets.
    assert environment.keys() == SETTINGS - {"HOST", "PORT"}
    for name, value in environment.items():
        # Without a value, it is the shell's or that of .env.
        assert value is None or name == "TRUSTED_PROXIES" or value.startswith(f"${{{name}:-"), name


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_compose_confines_each_service(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    # The engine's own seccomp profile applies unless another is named here.
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"cap_add", "privileged", "pid", "ipc", "network_mode"}
    assert service["mem_limit"] and service["pids_limit"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


def test_compose_runs_nothing_as_root_and_nginx_beside_the_service() -> None:
    nginx = COMPOSE["services"]["nginx"]
    assert nginx["user"].split(":")[0] not in ("0", "root")
    assert all(int(port.rpartition(":")[2]) > 1023 for port in nginx["ports"])  # which need root
    assert nginx["cpus"] == 1
    assert "user" not in COMPOSE["services"]["fovsfe"]  # the image's
    assert COMPOSE["services"]["fovsfe"]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"]["internal"] is True


def test_both_proxies_have_the_same_limits_and_write_nothing_to_disk() -> None:
    annotations = manifest("ingress")["metadata"]["annotations"]
    most = annotations["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(most.removesuffix("m")) << 20 == 10 * DEFAULTS.max_content_length
    assert annotations["nginx.ingress.kubernetes.io/proxy-request-buffering"] == "off"
    assert annotations["nginx.ingress.kubernetes.io/proxy-max-temp-file-size"] == "0"
    template = (DEPLOY / "nginx/fovsfe.conf.template").read_text(encoding="utf-8")
    (connections,) = re.findall(r"limit_conn connections (\d+);", template)
    assert annotations["nginx.ingress.kubernetes.io/limit-connections"] == connections
    default = f"${{MAX_CONTENT_LENGTH:-{DEFAULTS.max_content_length}}}"
    for service in COMPOSE["services"].values():
        assert service["environment"]["MAX_CONTENT_LENGTH"] == default


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.compose-spec", DEPLOY / "compose.yaml"),
        *(("vendor.github-workflows", file) for file in sorted((ROOT / ".github/workflows").glob("*.yml"))),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_schema_of_others_is_kept(schema: str, file: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nginx_is_given_what_its_template_names() -> None:
    nginx = COMPOSE["services"]["nginx"]
    template = (DEPLOY / "nginx/fovsfe.conf.template").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+)\}", template)) == set(nginx["environment"])
    assert "./nginx/fovsfe.conf.template" in nginx["volumes"][0]


def test_figures_to_watch_exist(metrics_text: str) -> None:
    guide = (ROOT / "docs/go-to-production.md").read_text(encoding="utf-8")
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", metrics_text, re.M))
    known = set(types) | {f"{name}_bucket" for name, kind in types.items() if kind == "histogram"}
    named = set(re.findall(r"\bfovsfe_\w+", guide))
    assert named <= known
    ours = {name for name in types if name.startswith("fovsfe_") and not name.endswith("_created")}
    assert ours <= named
    (rules,) = re.findall(r"^```yaml\n(.*?)^```", guide, re.M | re.S)
    alerts = yaml.safe_load(rules)["groups"][0]["rules"]
    assert all(alert.keys() >= {"alert", "expr", "labels"} for alert in alerts)
    reasons = re.findall(r'reason=~?"([^"]+)"', guide)
    assert {slug for reason in reasons for slug in reason.split("|")} <= set(PROBLEM_TYPES)


def json_of(name: str) -> Any:
    return json.loads((ROOT / name).read_text(encoding="utf-8"))


def test_heroku_files_have_documented_keys_only() -> None:
    # https://devcenter.heroku.com/articles/app-json-schema
    app = json_of("app.json")
    assert app.keys() <= {"name", "description", "stack", "formation", "env"}
    assert len(app["name"]) <= 30
    assert app["stack"] == "container"
    assert app["formation"]["web"].keys() == {"quantity", "size"}
    for entry in app["env"].values():
        assert entry.keys() == {"description", "value"}
    # https://devcenter.heroku.com/articles/build-docker-images-heroku-yml
    built = yaml.safe_load((ROOT / "heroku.yml").read_text(encoding="utf-8"))
    assert built == {"build": {"docker": {"web": "deploy/Dockerfile"}}}
    # Heroku starts the CMD, and puts /bin/sh -c behind an ENTRYPOINT.
    assert "ENTRYPOINT" not in DOCKERFILE


def steps(dockerfile: str) -> Iterator[tuple[str, str]]:
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", dockerfile, flags=re.M))
    for line in joined.splitlines():
        if line.strip():
            word, rest = line.split(maxsplit=1)
            yield word, rest


def test_image_is_not_root_and_copies_what_is_there() -> None:
    found = list(steps(DOCKERFILE))
    assert [rest for word, rest in found if word == "USER"] == ["10001:10001"]
    assert found.index(("USER", "10001:10001")) > max(i for i, (word, _) in enumerate(found) if word == "RUN")
    for word, rest in found:
        if word == "COPY" and not rest.startswith("--from=") and "$" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
    default = re.search(r"^ARG BUNDLE=(\S+)", DOCKERFILE, re.M)
    assert default and (ROOT / default[1]).is_dir()


# ---- what the image is built from

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = {
    "requirements.txt": [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["serve"],
    ],
    "build-requirements.txt": PROJECT["build-system"]["requires"],
}
BASE = "python:3.11-slim-bookworm"


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """The version and the hashes of every package in a file of `make lock`."""
    text = (DEPLOY / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    packages = {}
    for requirement, *hashes in lines:
        package, version = requirement.split("==")
        packages[canonicalize_name(package)] = (version, hashes)
    return packages


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_has_all_that_the_image_needs_within_its_range(name: str) -> None:
    packages = locked(name)
    for requirement in map(Requirement, LOCKS[name]):
        if requirement.marker is None or requirement.marker.evaluate():
            version, _ = packages[canonicalize_name(requirement.name)]
            assert version in requirement.specifier, f"{requirement}, but {version}: make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_has_hashes_for_every_platform_and_tells_nothing_else(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    assert not re.search(
        r"://|^ *-[^-]|^ *--(?!hash=)| /|\.\./| @ ", text, re.M
    )  # an index, an option, a path
    assert f"by pip-compile with Python {BASE.removeprefix('python:').partition('-')[0]}\n" in text
    for package, (_, hashes) in locked(name).items():
        assert hashes, package
        assert all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", each) for each in hashes), package
    if name == "requirements.txt":  # of two processors and several Pythons at least
        for package in ("numpy", "onnxruntime", "pillow", "pydantic-core", "uvloop"):
            assert len(locked(name)[package][1]) > 4, package


def test_the_guide_lists_the_packages_of_the_image() -> None:
    guide = (ROOT / "docs/go-to-production.md").read_text(encoding="utf-8")
    listed = {
        canonicalize_name(name)
        for name in re.findall(r"^\| ([\w.-]+) \| \d[\w.]* \| [\d.]+ \|$", guide, re.M)
    }
    assert listed == {"fovsfe", *locked("requirements.txt")}


def test_the_image_installs_nothing_but_what_is_locked() -> None:
    assert DOCKERFILE.count(f"ARG BASE={BASE}\n") == 1
    found = list(steps(DOCKERFILE))
    assert [rest.split()[0] for word, rest in found if word == "FROM"] == ["${BASE}", "${BASE}"]
    installs = [
        command
        for word, rest in found
        if word == "RUN"
        for command in rest.split("&&")
        if re.search(r"\b(install|wheel) ", command)
    ]
    assert len(installs) == 4
    for command in installs:
        is_locked = "--require-hashes" in command and "--only-binary :all:" in command
        adds_nothing = "--no-deps" in command and (
            "--no-index" in command or "--no-build-isolation" in command
        )
        assert is_locked or adds_nothing, command
    assert {name for name in LOCKS if f"-r deploy/{name}" in DOCKERFILE} == set(LOCKS)


def test_the_lock_is_renewed_by_the_makefile_and_once_a_week() -> None:
    shown = subprocess.run(
        ["make", "--dry-run", "lock"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert {name for name in LOCKS if f"--output-file deploy/{name} " in shown} == set(LOCKS)
    assert shown.count("--generate-hashes") == shown.count("--no-emit-index-url") == len(LOCKS)
    assert shown.count("--no-emit-find-links") == shown.count("--no-emit-trusted-host") == len(LOCKS)
    workflow = workflow_of("lock")
    assert workflow[True]["schedule"]  # YAML takes "on" for true
    job = workflow["jobs"]["lock"]
    assert "make lock" in [step.get("run") for step in job["steps"]]
    assert [step for step in job["steps"] if "create-pull-request" in step.get("uses", "")]
    python = next(
        step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", "")
    )
    assert f"python:{python}-" in BASE


def workflow_of(name: str) -> Any:
    return yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text(encoding="utf-8"))


def run_release_step(job: str, name: str, tools: Path, **environ: str) -> Any:
    """Runs a step of the release workflow, with the programs of the folder `tools` before all others."""
    (script,) = [
        step["run"] for step in workflow_of("release")["jobs"][job]["steps"] if name in step.get("name", "")
    ]
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=tools,
        env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def stand_in_for_docker(folder: Path, answer: str) -> None:
    docker = folder / "docker"
    docker.write_text(f"#!/bin/sh\necho \"$@\" >> calls\nprintf '%s\\n' '{answer}'\n")
    docker.chmod(0o755)


def test_a_release_builds_from_the_digest_of_the_base_image(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/Dockerfile").write_text(DOCKERFILE)
    output = tmp_path / "output"
    digest = f"sha256:{'a' * 64}"
    stand_in_for_docker(tmp_path, digest)
    done = run_release_step("image", "The base image", tmp_path, GITHUB_OUTPUT=str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    assert output.read_text() == f"name={BASE}\ndigest={digest}\n"
    assert f"imagetools inspect {BASE} " in (tmp_path / "calls").read_text()
    for answer in ("", "sha256:abc", "<no value>"):
        stand_in_for_docker(tmp_path, answer)
        refused = run_release_step("image", "The base image", tmp_path, GITHUB_OUTPUT=str(output))
        assert refused.returncode == 1
        assert "no digest" in refused.stdout

    job = workflow_of("release")["jobs"]["image"]
    (build,) = [step["with"] for step in job["steps"] if "build-push-action" in step.get("uses", "")]
    pinned = "${{ steps.base.outputs.name }}@${{ steps.base.outputs.digest }}"
    assert build["build-args"] == f"BASE={pinned}"
    assert job["outputs"]["base"] == pinned


def test_a_release_has_the_list_of_what_is_in_its_image(tmp_path: Path) -> None:
    stand_in_for_docker(tmp_path, '{"packages": [{"name": "onnxruntime"}]}')
    done = run_release_step(
        "image", "What is in the image", tmp_path, IMAGE="ghcr.io/someone/fovsfe:1@sha256:b"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lists = sorted(file.name for file in (tmp_path / "dist").iterdir())
    assert lists == ["image-amd64.spdx.json", "image-arm64.spdx.json"]
    stand_in_for_docker(tmp_path, "null")
    assert run_release_step("image", "What is in the image", tmp_path, IMAGE="a").returncode == 1

    image, notes = (workflow_of("release")["jobs"][name] for name in ("image", "notes"))
    (build,) = [step["with"] for step in image["steps"] if "build-push-action" in step.get("uses", "")]
    assert build["sbom"] is True
    assert build["provenance"] == "mode=max"
    (release,) = [step["run"] for step in notes["steps"] if "gh release create" in step.get("run", "")]
    assert "dist/*.spdx.json" in release


def test_the_notes_of_a_release_name_its_image_and_the_base(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    notes = tmp_path / "dist/notes.md"
    notes.write_text("\n- New.\n")
    done = run_release_step(
        "notes", "The notes name", tmp_path, IMAGE="the-image@sha256:1", BASE="the-base@sha256:2"
    )
    assert done.returncode == 0, done.stderr
    assert (
        notes.read_text()
        == "\n- New.\n\n### Image\n\n`the-image@sha256:1`, built from `the-base@sha256:2`.\n"
    )

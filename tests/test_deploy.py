"""The files of deploy/ are what their readers take, agree with each other and with the service's settings.

Kubernetes' own schemas come with kubernetes-validate, those of Compose and GitHub with check-jsonschema.
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

from fovsfe.cli import app as commands
from fovsfe.service.metrics import ServiceMetrics
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


def test_the_ray_job_has_documented_keys_only() -> None:
    # https://ray-project.github.io/kuberay/reference/api/
    assert (RAY_JOB["apiVersion"], RAY_JOB["kind"]) == ("ray.io/v1", "RayJob")
    spec = RAY_JOB["spec"]
    assert spec.keys() == {
        "entrypoint",
        "backoffLimit",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "rayClusterSpec",
    }
    keys = {"rayVersion", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"}
    assert spec["rayClusterSpec"].keys() == keys
    head, *workers = RAY_GROUPS
    assert head.keys() == {"rayStartParams", "template"}
    for group in workers:
        keys = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
        assert group.keys() == keys
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


@pytest.mark.parametrize("version", ["1.31", "1.37"])
@pytest.mark.parametrize("group", RAY_GROUPS, ids=["head", "gpu"])
def test_kubernetes_takes_the_pods_of_the_ray_job(group: Any, version: str) -> None:
    a_pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, **group["template"]}
    kubernetes_validate.validate(a_pod, version, strict=True)
    a_pod["spec"]["securityContext"]["runAsNonRoott"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(a_pod, version, strict=True)
    del a_pod["spec"]["securityContext"]["runAsNonRoott"]
    dockerfile = (DEPLOY / "kuberay" / "Dockerfile").read_text(encoding="utf-8")
    assert f"USER {a_pod['spec']['securityContext']['runAsUser']}:" in dockerfile
    cache = dict(re.findall(r"^ +(FOVSFE_\w+)=(\S+)", dockerfile, re.M))["FOVSFE_CACHE"]
    (container,) = a_pod["spec"]["containers"]
    assert cache in [mount["mountPath"] for mount in container["volumeMounts"]]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in a_pod["spec"]["volumes"]
    }


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
        },
        "kubernetes": {entry["name"]: entry["value"] for entry in pod()["containers"][0]["env"]},
        "heroku": {name: entry["value"] for name, entry in json_of("app.json")["env"].items()},
        "image": dict(re.findall(r"^ +([A-Z]\w+)=(\S+)", DOCKERFILE, re.M)),
    }
    for where, environ in set_here.items():
        assert environ.keys() <= SETTINGS, where
        Settings.read(environ)


def test_only_the_service_limits_bodies_and_nothing_is_buffered() -> None:
    annotations = manifest("ingress")["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == "0"
    assert annotations["nginx.ingress.kubernetes.io/proxy-request-buffering"] == "off"
    template = (DEPLOY / "nginx/fovsfe.conf.template").read_text(encoding="utf-8")
    assert "client_max_body_size 0;" in template
    assert "proxy_request_buffering off;" in template
    default = COMPOSE["services"]["fovsfe"]["environment"]["MAX_CONTENT_LENGTH"]
    assert default == f"${{MAX_CONTENT_LENGTH:-{DEFAULTS.max_content_length}}}"


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.compose-spec", DEPLOY / "compose.yaml"),
        ("vendor.github-workflows", ROOT / ".github/workflows/ci.yml"),
        ("vendor.github-workflows", ROOT / ".github/workflows/release.yml"),
    ],
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


def test_figures_to_watch_exist() -> None:
    guide = (ROOT / "docs/go-to-production.md").read_text(encoding="utf-8")
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", ServiceMetrics().text().decode(), re.M))
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

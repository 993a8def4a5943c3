"""Files of deploy/ are what Kubernetes, KubeRay and Ray's launcher take, and mistakes in them are seen."""

from __future__ import annotations

import copy
import json
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from diga.launch import SETTINGS
from diga.launch.cluster import SLOT

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.34"
Object = dict[str, Any]


@cache
def loaded() -> dict[str, Object]:
    """Every Kubernetes object of deploy/ by kind and name."""
    texts = [path.read_text("utf8") for path in sorted((DEPLOY / "kuberay").glob("*.yaml"))]
    objects = [thing for text in texts for thing in yaml.safe_load_all(text)]
    return {f"{o['kind']}/{o['metadata'].get('name') or o['metadata']['generateName']}": o for o in objects}


def objects() -> dict[str, Object]:
    """The same, to be spoilt."""
    return copy.deepcopy(loaded())


def templates(thing: Object) -> Iterator[Object]:
    """Pod templates of an object."""
    spec = thing.get("spec", {})
    if thing["kind"] == "RayJob":
        cluster = spec["rayClusterSpec"]
        yield from (group["template"] for group in (cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])))
    elif "template" in spec:
        yield spec["template"]


def check(thing: Object) -> None:
    """Raises ValidationError for a field that is not known, lacks or has another type."""
    if thing["kind"] != "RayJob":
        kubernetes_validate.validate(thing, KUBERNETES, strict=True)
        return
    schema = json.loads((ROOT / "tests/schemas/rayjob.json").read_text("utf8"))
    Draft202012Validator(schema).validate(thing)
    for template in templates(thing):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


# --- Kubernetes --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", loaded())
def test_kubernetes_would_take_it(name: str) -> None:
    check(objects()[name])


def renamed(where: Object, old: str, new: str) -> None:
    """A field under another name."""
    where[new] = where.pop(old)


def job(change: Callable[[Object], object]) -> tuple[str, Callable[[Object], object]]:
    """A mistake in the spec of the RayJob."""
    return "RayJob/sweep-", lambda thing: change(thing["spec"])


def workers(spec: Object) -> Object:
    """The worker group of a RayJob's spec."""
    group: Object = spec["rayClusterSpec"]["workerGroupSpecs"][0]
    return group


def containers(thing: Object) -> Object:
    """The first container of an object's first pod."""
    first: Object = next(templates(thing))["spec"]["containers"][0]
    return first


MISTAKES = {
    "entryPoint": job(lambda spec: renamed(spec, "entrypoint", "entryPoint")),
    "maxReplica": job(lambda spec: renamed(workers(spec), "maxReplicas", "maxReplica")),
    "replicas: two": job(lambda spec: workers(spec).update(replicas="two")),
    "a container without a name": job(lambda spec: workers(spec)["template"]["spec"]["containers"][0].pop("name")),
    "a number where Ray reads a string": job(lambda spec: workers(spec)["rayStartParams"].update({"num-cpus": 0})),
    "authOption": job(lambda spec: renamed(spec["rayClusterSpec"], "authOptions", "authOption")),
    "mode: tokens": job(lambda spec: spec["rayClusterSpec"].update(authOptions={"mode": "tokens"})),
    "volumeMount": job(
        lambda spec: renamed(workers(spec)["template"]["spec"]["containers"][0], "volumeMounts", "volumeMount")
    ),
    "a probe by another name": ("Deployment/mlflow", lambda t: renamed(containers(t), "readinessProbe", "readiness")),
    "a port that is a word": ("Deployment/mlflow", lambda t: containers(t)["ports"][0].update(containerPort="http")),
    "no selector": ("StatefulSet/postgres", lambda thing: thing["spec"].pop("selector")),
    "a password that is no reference": (
        "StatefulSet/postgres",
        lambda thing: containers(thing)["env"].append({"name": "PGPASSWORD", "valueFrom": "database"}),
    ),
    "accessMode": ("PersistentVolumeClaim/shared", lambda thing: renamed(thing["spec"], "accessModes", "accessMode")),
    "a setting that is no string": ("ConfigMap/environment", lambda thing: thing["data"].update(RAY_DEDUP_LOGS=0)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_seen(mistake: str) -> None:
    name, spoil = MISTAKES[mistake]
    thing = objects()[name]
    spoil(thing)
    with pytest.raises(ValidationError):
        check(thing)


def pods() -> list[tuple[str, Object]]:
    """Specs of all pods, with the name of what has them."""
    return [(name, template["spec"]) for name, thing in loaded().items() for template in templates(thing)]


def test_what_pods_refer_to_is_there() -> None:
    page = (ROOT / "docs/cluster.md").read_text("utf8")
    for name, spec in pods():
        mounted = {m["name"] for c in spec["containers"] for m in c.get("volumeMounts", [])}
        claimed = {c["metadata"]["name"] for c in loaded()[name]["spec"].get("volumeClaimTemplates", [])}
        assert mounted == {v["name"] for v in spec["volumes"]} | claimed, name
        for volume in spec["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                assert f"PersistentVolumeClaim/{claim['claimName']}" in loaded()
            if texts := volume.get("configMap"):
                assert f"ConfigMap/{texts['name']}" in loaded()
        for container in spec["containers"]:
            for source in container.get("envFrom", []):
                assert f"ConfigMap/{source['configMapRef']['name']}" in loaded()
            for secret in (v["valueFrom"]["secretKeyRef"] for v in container.get("env", []) if "valueFrom" in v):
                assert f"create secret generic {secret['name']} --from-literal={secret['key']}=" in page
    for thing in loaded().values():
        if thing["kind"] == "Service":
            labels = [
                next(templates(o))["metadata"]["labels"] for n, o in loaded().items() if n.startswith(("Dep", "Sta"))
            ]
            assert thing["spec"]["type"] == "ClusterIP", "nothing is exposed"
            assert thing["spec"]["selector"] in labels
        assert thing["kind"] == "Namespace" or thing["metadata"]["namespace"] == "diga"


def test_no_pod_is_roots_and_each_asks_for_what_it_takes() -> None:
    assert len(pods()) == 4
    for name, spec in pods():
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]
            if not name.startswith("RayJob"):  # KubeRay adds Ray's own
                assert {"readinessProbe", "livenessProbe"} <= container.keys()


def test_no_password_lies_in_a_file() -> None:
    assert not [name for name in loaded() if name.startswith("Secret/")]
    for path in (ROOT / "docs/cluster.md", *DEPLOY.rglob("*.*")):
        assert re.findall(r"://[^@/\s]*:[^@/\s]+@", path.read_text("utf8")) == [], path


# --- settings ------------------------------------------------------------------------------------


def test_pods_have_the_settings_of_the_code() -> None:
    told = loaded()["ConfigMap/environment"]["data"]
    assert {k: v for k, v in told.items() if not k.startswith("DIGA_")} == SETTINGS
    assert told["DIGA_HOME"] == "/shared/diga-home"
    mlflow = {e["name"]: e.get("value") for e in containers(loaded()["Deployment/mlflow"])["env"]}
    assert mlflow["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert {k: mlflow[k] for k in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")} == {
        k: SETTINGS[k] for k in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    }


def test_heads_have_the_slot_of_trials_and_clusters_a_token() -> None:
    cluster = loaded()["RayJob/sweep-"]["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    (text,) = shlex.split(cluster["headGroupSpec"]["rayStartParams"]["resources"])  # as KubeRay puts it on a line
    assert json.loads(text) == {SLOT: 1}
    start = lab()["head_start_ray_commands"][-1]
    (text,) = (w.partition("=")[2] for w in shlex.split(start) if w.startswith("--resources="))
    assert json.loads(text) == {SLOT: 1}
    assert "--dashboard-host=127.0.0.1" in start
    commands = lab()["head_start_ray_commands"] + lab()["worker_start_ray_commands"]
    assert all(c.startswith(". /shared/diga/deploy/environment.sh && ") for c in commands)
    assert "export RAY_AUTH_MODE=token" in (DEPLOY / "environment.sh").read_text("utf8")
    assert lab()["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


# --- ray up ------------------------------------------------------------------------------------


def lab() -> Object:
    """The file for `ray up`."""
    found: Object = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text("utf8"))
    return found


def cloud() -> Object:
    """The same with the lines for a cloud in their place."""
    lines = (DEPLOY / "ray-cluster.yaml").read_text("utf8").splitlines()
    instead = yaml.safe_load("\n".join(x.removeprefix("# cloud: ") for x in lines if x.startswith("# cloud: ")))
    whole: Object = lab() | instead
    whole["auth"].pop("ssh_private_key")
    return whole


def taken(config: Object) -> Object:
    """What Ray makes of a file, once it has checked it."""
    from ray.autoscaler._private.util import prepare_config, validate_config  # not before others have set Ray up

    filled: Object = prepare_config(config)
    validate_config(filled)
    return filled


@pytest.mark.parametrize("made", [lab, cloud])
def test_ray_up_would_take_it(made: Callable[[], Object]) -> None:
    assert taken(made())["max_workers"] == 2


@pytest.mark.parametrize(
    "mistake",
    [
        {"max_worker": 2},
        {"provider": {"type": "local", "head_ip": "192.0.2.10"}},
        {"setup_commands": "pip install diga"},
        {"auth": {"user": "ubuntu"}},
    ],
    ids=lambda mistake: next(iter(mistake)),
)
def test_a_mistake_for_ray_up_is_seen(mistake: Object) -> None:
    with pytest.raises(Exception, match=r"max_worker|worker_ips|list|user"):
        taken(lab() | mistake)

"""The parts of the site on Ray that need no cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from xpert.core.errors import InputError, UnavailableError
from xpert_services.serving import background
from xpert_services.serving.__main__ import read_args
from xpert_services.serving.args import GatewayArgs, Replicas, SiteArgs, WorkerArgs
from xpert_services.serving.cluster import make_private

ROOT = Path(__file__).parents[2]


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="most is 1"):
        Replicas(least=2, most=1)
    with pytest.raises(ValidationError, match="extra"):
        SiteArgs.model_validate({"store": "s", "admin_token": "x"})
    settings = tmp_path / "settings.json"
    settings.write_text('{"lease_s": "long"}')
    with pytest.raises(InputError, match="lease_s"):
        read_args("store", settings)
    assert read_args("store", None).store == str(Path("store").absolute())
    assert read_args("s3://b/p?region=r", None).store == "s3://b/p?region=r"


def test_a_private_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "token"
    assert make_private(path, "one")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    assert not make_private(path, "two")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("one", 0o600)


def test_down_leaves_a_process_alone_that_has_the_number_of_one_that_ended(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    born = psutil.Process(other.pid).create_time()
    (tmp_path / "process.json").write_text(json.dumps({"pid": other.pid, "born": born - 100}))
    assert not background.down(tmp_path)
    assert other.poll() is None
    assert not background.down(tmp_path)
    (tmp_path / "process.json").write_text(json.dumps({"pid": other.pid, "born": born}))
    assert background.down(tmp_path)
    other.wait()
    assert other.stdin
    other.stdin.close()


def test_what_does_not_start_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="exit status"):
        background.up(tmp_path, ["--store", "ftp://nowhere", "--port", "none"])
    assert not (tmp_path / "process.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--certificate", "missing.pem"], ["--key", "alone.pem"], ["--certificate", "empty.pem"]])
def test_certificates_are_tried_before_anything_starts(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    command = [sys.executable, "-W", "ignore", "-m", "xpert_services.serving", "--store", "store", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == InputError.exit_code
    assert options[1] in done.stderr
    assert "PEM files of one pair" in done.stderr
    assert not (tmp_path / "store").exists()


def run_with_ray(code: str, *arguments: object) -> Any:
    """Run code in a process of its own: Ray changes its process, and warns about things of its own."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


SCALING = """
import json
from types import SimpleNamespace
from xpert_services.serving import scaling
from xpert_services.serving.args import GatewayArgs, WorkerArgs

def context(told, target=1):
    return SimpleNamespace(aggregated_metrics={scaling.WANTED: told}, target_num_replicas=target,
                           capacity_adjusted_min_replicas=1, capacity_adjusted_max_replicas=4)

print(json.dumps({
    "none": scaling.by_queue(context({}, 3))[0],
    "most": scaling.by_queue(context({"a": 1.0, "b": 2.2}))[0],
    "capped": scaling.by_queue(context({"a": 90.0}))[0],
    "idle": scaling.by_queue(context({"a": 0.0}, 4))[0],
    "gateway": scaling.gateway_options(GatewayArgs(most=3, requests=100, waiting=50)),
    "fixed": scaling.worker_options(WorkerArgs(least=2, most=2, cpus=0.5, gpus=0.25)),
    "growing": scaling.worker_options(WorkerArgs(least=1, most=4)),
}))
"""


@pytest.mark.slow
def test_replicas_follow_the_queue() -> None:
    found = run_with_ray(SCALING)
    assert (found["none"], found["most"], found["capped"], found["idle"]) == (3, 3, 4, 1)
    assert found["gateway"]["max_ongoing_requests"] == 100
    assert found["gateway"]["max_queued_requests"] == 50
    assert found["gateway"]["autoscaling_config"]["target_ongoing_requests"] == 25
    assert found["fixed"] == {"num_replicas": 2, "ray_actor_options": {"num_cpus": 0.5, "num_gpus": 0.25}}
    assert found["growing"]["autoscaling_config"]["policy"]["policy_function"] == "xpert_services.serving.scaling:by_queue"


HEALTH = """
import json, sys
from xpert_services.serving.application import Explainer
from xpert_services.serving.args import SiteArgs

explainer = Explainer(SiteArgs(store=sys.argv[1]))
explainer.check_health()
explainer._worker.stop()
explainer._thread.join()
try:
    explainer.check_health()
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


@pytest.mark.slow
def test_a_replica_whose_worker_ended_says_so(tmp_path: Path) -> None:
    name, told = run_with_ray(HEALTH, tmp_path)
    assert name == "UnavailableError"
    assert "explain" in told


BUILDING = """
import json, sys, yaml
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary as build
from ray.serve._private.build_app import build_app
from ray.serve.schema import ServeDeploySchema
from ray._common.utils import import_attr

with open(sys.argv[1]) as stream:
    config = ServeDeploySchema.model_validate(yaml.safe_load(stream))
(site,) = config.applications
built = build_app(build(import_attr(site.import_path), site.args), name=site.name, default_runtime_env={})
try:
    build(import_attr(site.import_path), {**site.args, "admin_token": "x"})
except ValueError as error:
    refused = str(error)
limits = {each.name: each._deployment_config.autoscaling_config.max_replicas for each in built.deployments}
print(json.dumps([limits, refused]))
"""


@pytest.mark.slow
def test_the_configuration_for_a_cluster_makes_the_application() -> None:
    limits, refused = run_with_ray(BUILDING, ROOT / "services" / "site.yaml")
    assert limits == {"explainer": 4, "gateway": 8, "merger": 2}
    assert "admin_token" in refused


def test_options_have_sound_defaults() -> None:
    args = SiteArgs(store="s")
    assert isinstance(args.gateway, GatewayArgs)
    assert isinstance(args.explainer, WorkerArgs)
    assert args.gateway.requests > 5  # Serve's own default
    assert args.explainer.gpus == 0

"""launch/gke.py: the JobSet it writes."""

from __future__ import annotations

import pytest
import yaml

from segjax.parallel.distributed import detect
from tests.launch.launchers import launch

TPU = ["seg", "--image=repo/segjax:1", "--tpu=tpu-v5-lite-podslice", "--topology=4x8"]
GPU = ["seg", "--image=repo/segjax:1", "--gpu=nvidia-h100-80gb", "--nodes=4"]
RUN = ["--", "segjax", "train", "--config=a b.py", "--workdir=/runs/x"]


def _manifest(*words: str) -> dict:
    ended = launch("gke", *words, "--dry-run", *RUN)
    assert ended.returncode == 0, ended.stderr
    *lines, last = ended.stdout.splitlines()
    assert last == "# applied with: kubectl apply -f -"
    return yaml.safe_load("\n".join(lines))


def _job(manifest: dict) -> dict:
    (replicated,) = manifest["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


def test_tpu_slices():
    manifest = _manifest(
        *TPU, "--slices=2", "--claim=runs:/runs", "--claim=sets:/data", "--env=A=b=c", "--namespace=ml"
    )
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert manifest["metadata"]["name"] == "seg"
    assert manifest["metadata"]["namespace"] == "ml"
    assert manifest["spec"]["replicatedJobs"][0]["replicas"] == 2
    job = _job(manifest)
    assert (job["parallelism"], job["completions"], job["completionMode"]) == (8, 8, "Indexed")  # 32 chips, 4 a host
    pod = job["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x8",
    }
    (container,) = pod["containers"]
    assert container["command"] == ["segjax", "train", "--config=a b.py", "--workdir=/runs/x", "--resume"]
    assert container["resources"] == {"limits": {"google.com/tpu": 4}}
    assert container["env"] == [{"name": "A", "value": "b=c"}]
    assert [(mount["name"], mount["mountPath"]) for mount in container["volumeMounts"]] == [
        ("runs", "/runs"),
        ("sets", "/data"),
    ]
    assert {volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]} == {"runs", "sets"}


def test_gpu_pods_are_told_which_they_are():
    manifest = _manifest(*GPU)
    assert "annotations" not in manifest["metadata"]
    (container,) = _job(manifest)["template"]["spec"]["containers"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 8}}
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    index = {entry["name"]: entry.get("valueFrom") for entry in container["env"]}["JAX_PROCESS_ID"]
    assert index == {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    # What the third pod finds in its environment is what segjax detects.
    found = detect({**values, "JAX_PROCESS_ID": "2"})
    assert str(found) == "GKE, JobSet seg: process 2 of 4, coordinator seg-workers-0-0.seg:8476"


def test_lost_pods_start_the_set_again_and_failed_programs_end_it():
    manifest = _manifest(*GPU, "--restarts=7")
    assert manifest["spec"]["failurePolicy"] == {
        "maxRestarts": 7,
        "rules": [{"name": "programFailed", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
    }
    job = _job(manifest)
    assert job["backoffLimit"] == 0
    (rule,) = job["podFailurePolicy"]["rules"]
    exits = {"containerName": "segjax", "operator": "In", "values": [1, 2]}
    assert rule == {"action": "FailJob", "onExitCodes": exits}
    assert job["template"]["spec"]["containers"][0]["name"] == "segjax"
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy works with no other


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([*TPU[:3]], "--topology: None is none; write 4x8, or 4x4x4."),
        ([*TPU[:3], "--topology=big"], "--topology: 'big' is none; write 4x8, or 4x4x4."),
        ([*TPU, "--chips-per-host=5"], "--chips-per-host: 5 does not divide the 32 of 4x8."),
        ([*GPU, "--claim=runs"], "--claim: runs is not PVC:/PATH."),
        ([*GPU, "--env=A"], "--env: 'A' is not KEY=VALUE."),
        (["Seg_1", *GPU[1:]], "'Seg_1' is no name for Kubernetes: a-z, 0-9 and -, at most 40, such as `segjax-unet`."),
    ],
)
def test_bad_input(words, error):
    ended = launch("gke", *words, "--dry-run", *RUN)
    assert (ended.returncode, ended.stderr) == (1, error + "\n")

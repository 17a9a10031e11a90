#!/usr/bin/env python3
"""Writes the JobSet manifest of a run on GKE, and applies it.

    python launch/gke.py NAME --image=IMAGE --tpu=tpu-v5-lite-podslice --topology=4x8 --chips-per-host=4 --dry-run
        -- segjax train --config=... --workdir=/runs/NAME
    python launch/gke.py NAME --image=IMAGE --gpu=nvidia-h100-80gb --gpus-per-node=8 --nodes=4 --claim=runs:/runs -- ...

One pod a host. On TPUs, GKE tells each which it is; on GPUs the manifest does. Pods that were evicted, killed, or that
ended because another was lost fail the job, and JobSet starts all of them again, with --resume; bad input or a crash of
the program fails the whole set at once.

Fields: jobset.x-k8s.io/v1alpha2 (JobSet's CRD), batch/v1 (podFailurePolicy), GKE's node labels for TPUs and GPUs. The
manifest is JSON within YAML, which kubectl reads like any YAML.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from run_command import split, with_resume

JOB = "workers"
PORT = 8476
FATAL = [1, 2]
"""A program's own failures: a traceback, bad input. Another start would end the same way."""
GRACE = 120
"""Seconds between SIGTERM and SIGKILL: time for a checkpoint."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the JobSet")
    parser.add_argument("--image", required=True)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument(
        "--tpu", metavar="TYPE", help="cloud.google.com/gke-tpu-accelerator, such as tpu-v5-lite-podslice"
    )
    kind.add_argument("--gpu", metavar="TYPE", help="cloud.google.com/gke-accelerator, such as nvidia-h100-80gb")
    parser.add_argument("--topology", metavar="4x8", help="of a TPU slice")
    parser.add_argument("--chips-per-host", type=int, default=4, metavar="N", help="default 4")
    parser.add_argument("--slices", type=int, default=1, metavar="N", help="TPU slices joined over the network")
    parser.add_argument("--gpus-per-node", type=int, default=8, metavar="N", help="default 8")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="of GPUs")
    parser.add_argument("--namespace")
    parser.add_argument("--claim", action="append", default=[], metavar="PVC:/PATH", help="volume for data and workdir")
    parser.add_argument("--env", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--restarts", type=int, default=3, metavar="N", help="of the whole set; default 3")
    parser.add_argument("--dry-run", action="store_true", help="print the manifest and the command, and end")
    options, command = split(argv)
    args = parser.parse_args(options)
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", args.name) or len(args.name) > 40:
        raise SystemExit(f"{args.name!r} is no name for Kubernetes: a-z, 0-9 and -, at most 40, such as `segjax-unet`.")
    text = yaml(manifest(args, with_resume(command)))
    apply = ["kubectl", "apply", "-f", "-"]
    if args.dry_run:
        print(text, end="")
        print(f"# applied with: {' '.join(apply)}")
        return 0
    if shutil.which("kubectl") is None:
        raise SystemExit("kubectl is not on this machine; see the manifest with --dry-run.")
    return subprocess.run(apply, input=text, text=True).returncode


def hosts_of(args: argparse.Namespace) -> int:
    """Pods of one job: hosts of a slice, or GPU nodes."""
    if args.gpu:
        return args.nodes
    if not re.fullmatch(r"\d+(x\d+){1,2}", args.topology or ""):
        raise SystemExit(f"--topology: {args.topology!r} is none; write 4x8, or 4x4x4.")
    chips = math.prod(map(int, args.topology.split("x")))
    if chips % args.chips_per_host:
        raise SystemExit(f"--chips-per-host: {args.chips_per_host} does not divide the {chips} of {args.topology}.")
    return chips // args.chips_per_host


def manifest(args: argparse.Namespace, command: Sequence[str]) -> dict[str, Any]:
    """The JobSet."""
    hosts = hosts_of(args)
    volumes = [claim.partition(":") for claim in args.claim]
    if any(not path.startswith("/") for _, _, path in volumes):
        raise SystemExit(f"--claim: {', '.join(args.claim)} is not PVC:/PATH.")
    if args.tpu:
        selector = {
            "cloud.google.com/gke-tpu-accelerator": args.tpu,
            "cloud.google.com/gke-tpu-topology": args.topology,
        }
        resources, environment = {"google.com/tpu": args.chips_per_host}, []
    else:
        selector = {"cloud.google.com/gke-accelerator": args.gpu}
        resources = {"nvidia.com/gpu": args.gpus_per_node}
        index = {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}
        environment = [
            {"name": "JOBSET_NAME", "value": args.name},
            # <jobset>-<replicated job>-<job>-<pod>.<subdomain, by default the jobset's name>
            {"name": "JAX_COORDINATOR_ADDRESS", "value": f"{args.name}-{JOB}-0-0.{args.name}:{PORT}"},
            {"name": "JAX_NUM_PROCESSES", "value": str(hosts)},
            {"name": "JAX_PROCESS_ID", "valueFrom": {"fieldRef": index}},
        ]
    for pair in args.env:
        key, mark, value = pair.partition("=")
        if not mark:
            raise SystemExit(f"--env: {pair!r} is not KEY=VALUE.")
        environment.append({"name": key, "value": value})
    container = {
        "name": "segjax",
        "image": args.image,
        "command": list(command),
        "env": environment,
        "resources": {"limits": resources},
        "volumeMounts": [{"name": name, "mountPath": path} for name, _, path in volumes],
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE,
        "nodeSelector": selector,
        "containers": [container],
        "volumes": [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name, _, _ in volumes],
    }
    exits = {"containerName": "segjax", "operator": "In", "values": FATAL}
    job = {
        "parallelism": hosts,
        "completions": hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # one pod lost is the run lost
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": exits}]},
        "template": {"spec": pod},
    }
    stop = {"name": "programFailed", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    metadata: dict[str, Any] = {"name": args.name}
    if args.namespace:
        metadata["namespace"] = args.namespace
    if args.tpu:  # a slice is a node pool: one job each
        metadata["annotations"] = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "failurePolicy": {"maxRestarts": args.restarts, "rules": [stop]},
            "replicatedJobs": [
                {"name": JOB, "replicas": args.slices if args.tpu else 1, "template": {"spec": job}},
            ],
        },
    }


def yaml(value: Any, indent: int = 0) -> str:
    """Block style for what holds something; JSON, which YAML includes, for the rest."""
    pad, lines = "  " * indent, []
    for key, item in value.items() if isinstance(value, dict) else ((None, item) for item in value):
        head = f"{pad}- " if key is None else f"{pad}{json.dumps(key) if '/' in key else key}:"
        if isinstance(item, dict | list) and item and not (isinstance(item, list) and _plain(item)):
            body = yaml(item, indent + 1)
            lines.append(head + body.lstrip(" ") if key is None else f"{head}\n{body}")
        else:
            lines.append(f"{head}{'' if key is None else ' '}{json.dumps(item)}\n")
    return "".join(lines)


def _plain(items: list[Any]) -> bool:
    return all(not isinstance(item, dict | list) for item in items)


if __name__ == "__main__":
    sys.exit(main())

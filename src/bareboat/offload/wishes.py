"""What a Job says about leaving, from its annotations and its pod template's. Pure; nonsense raises `Invalid`.

A pod's own word goes before its Job's. Values that mean money or a place are read in full here, so that a Job with a
mistake stays local instead of waiting on the virtual node.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bareboat.kube import objects
from bareboat.offload import jobs
from bareboat.workload import annotations, needs, runpod_asks
from bareboat.workload import pod as pods

PREFIXES = (runpod_asks.PREFIX, annotations.OURS)
MANAGED, FORCE = "managed", "offload"
MANAGED_LABEL = runpod_asks.PREFIX + MANAGED

_HANDED_DOWN = frozenset(
    prefix + spelling
    for name in (
        annotations.ACCESS,
        annotations.EXIT_CODE,
        annotations.GPU_NAMES,
        annotations.GPU_MEMORY,
        annotations.MAX_PRICE,
        annotations.REGIONS,
        annotations.RELIABILITY,
        annotations.DISK,
        annotations.PRICING,
        annotations.CLOUDS,
        annotations.VERIFIED,
        annotations.CUDA,
        annotations.DOWNLOAD,
    )
    for prefix in annotations.PREFIXES
    for spelling in (name, *annotations.SPELLINGS.get(name, ()))
) | frozenset(runpod_asks.NAMES)
SPOKEN = _HANDED_DOWN | {prefix + name for prefix in PREFIXES for name in (MANAGED, FORCE)}
"""All annotations of a Job that are read."""


@dataclass(frozen=True, slots=True)
class Wish:
    """`forced_by`: the annotation that wants it out at once. `gpus` of each pod. `handed_down`: annotations of the Job
    that its pods are given unless they have them. `most_usd_per_hour` is the Job's own limit."""

    gpus: int
    forced_by: str = ""
    most_usd_per_hour: float | None = None
    handed_down: Mapping[str, str] = field(default_factory=dict)


def read(job: jobs.Job) -> Wish | None:
    """None for a Job that no annotation lets go."""
    own = job.metadata.annotations or {}
    if not _flag(own, MANAGED):
        return None
    forced_by = _flag(own, FORCE)
    handed_down = {name: text for name, text in own.items() if name in _HANDED_DOWN}
    together = {**handed_down, **(job.spec.template.metadata.annotations or {})}
    wanted = needs.from_pod(pods.Pod(objects.ObjectMeta(annotations=together)), needs.Defaults(max_usd_per_hour=None))
    gpus = job.gpus()
    if gpus < 1:
        field_path = f"spec.template.spec.containers[*].resources.limits[{needs.GPU_RESOURCE}]"
        raise annotations.Invalid(field_path, "0", "at least 1 GPU for a Job that may be offloaded")
    return Wish(gpus, forced_by, wanted.max_usd_per_hour, handed_down)


def _flag(notes: Mapping[str, str], name: str) -> str:
    """The annotation that says true; empty when none does. Only `true` and `false` are understood: a guess at what
    somebody meant could rent."""
    says = ""
    for prefix in PREFIXES:
        text = notes.get(prefix + name)
        if text is None:
            continue
        if text.strip().lower() not in ("true", "false"):
            raise annotations.Invalid(f"annotation {prefix}{name}", text, '"true" or "false"')
        if text.strip().lower() == "true":
            says = says or prefix + name
    return says

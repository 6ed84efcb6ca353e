"""The one table of every field of a pod's spec (Kubernetes 1.36): what becomes of it, and the rules that the code
applies. `docs/pod-fields.md` is made of it; what the API server describes and the table lacks fails a test."""

from bareboat.workload.fields import of_containers, of_pods, of_volumes, rows

KUBERNETES = "1.36"
ROWS: tuple[rows.Row, ...] = (
    *of_pods.SPEC,
    *of_containers.CONTAINER,
    *of_volumes.VOLUME,
    *of_volumes.MOUNT,
    *of_containers.ENVIRONMENT,
    *of_containers.PROBES,
    *of_containers.PORTS,
    *of_containers.RESOURCES,
    *of_containers.SECURITY,
    *of_pods.SECURITY,
    *of_volumes.SOURCES,
    *of_pods.SMALL,
    *of_containers.EPHEMERAL,
    *of_pods.SCHEDULING,
    *of_volumes.REJECTED,
)


def rules(access: rows.Access) -> tuple[rows.Rule, ...]:
    """Of this access, in the table's order, each once."""
    return tuple(dict.fromkeys(rule for row in ROWS for rule in row.rules if access in rule.access))

"""Where each kind lives on the API server: the only place that builds paths."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Resource:
    """One kind of the API: `api_version` as in manifests (`v1`, `batch/v1`)."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """`namespace=None` of a namespaced kind means all namespaces (lists and watches only)."""
        parts = ["/api" if "/" not in self.api_version else "/apis", self.api_version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            if self.namespaced and namespace is None:
                raise ValueError(f"{self.kind} {name!r} needs a namespace")
            parts.append(name)
        if subresource is not None:
            parts.append(subresource)
        return "/".join(parts)


PODS = Resource("v1", "Pod", "pods")
NODES = Resource("v1", "Node", "nodes", namespaced=False)
NAMESPACES = Resource("v1", "Namespace", "namespaces", namespaced=False)
SERVICES = Resource("v1", "Service", "services")
ENDPOINTS = Resource("v1", "Endpoints", "endpoints")
CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps")
SECRETS = Resource("v1", "Secret", "secrets")
SERVICE_ACCOUNTS = Resource("v1", "ServiceAccount", "serviceaccounts")
EVENTS = Resource("v1", "Event", "events")
PERSISTENT_VOLUME_CLAIMS = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
JOBS = Resource("batch/v1", "Job", "jobs")
STATEFUL_SETS = Resource("apps/v1", "StatefulSet", "statefulsets")
ENDPOINT_SLICES = Resource("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
LEASES = Resource("coordination.k8s.io/v1", "Lease", "leases")
CERTIFICATE_SIGNING_REQUESTS = Resource(
    "certificates.k8s.io/v1", "CertificateSigningRequest", "certificatesigningrequests", namespaced=False
)
TOKEN_REVIEWS = Resource("authentication.k8s.io/v1", "TokenReview", "tokenreviews", namespaced=False)
SUBJECT_ACCESS_REVIEWS = Resource(
    "authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", namespaced=False
)

"""The service described in OpenAPI 3.1: what `/openapi.json` answers, and the tests fuzz from."""

import re
from typing import Any

from bareboat import __version__
from bareboat.provision import images, order, ssh_keys

NAME = re.compile(r"client-[a-z0-9][-a-z0-9]{0,42}-[0-9a-f]{8}(-pod|-svc)?")
Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_NUMBER: Json = {"type": ["integer", "null"], "description": "null while there is no Service."}
_ANSWER: Json = {
    "pod_name": _TEXT,
    "service_name": _TEXT,
    "secret_name": _TEXT,
    "connect_http_port": _NUMBER,
    "connect_ssh_port": _NUMBER,
    "namespace": _TEXT,
}
_STANDING: Json = {
    "ready": {"type": "boolean"},
    "phase": {"type": "string", "description": "The pod's, or Terminating, or Missing."},
    "reason": {"type": "string", "description": "Why it is not ready, in the cluster's words."},
}
_CLIENT: Json = {
    "name": _TEXT,
    **_ANSWER,
    **_STANDING,
    "image": {"type": ["string", "null"]},
    "created_at": {"type": ["string", "null"]},
    "rented": {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
}
_EXAMPLE: Json = {
    "container_img_url": "docker.io/looogarithm/mock-inference:latest",
    "ssh_public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKiQzJtH2Mmqm4uN0XkT8rZrbC6yq2bqZ0pX3xq3f0aB user@example",
    "port": 22,
}
_REFUSALS = {
    "400": "The body is no JSON.",
    "401": "The token is missing or wrong.",
    "403": "The image is not allowed, or the cluster forbids it.",
    "404": "There is no such client, or no such namespace.",
    "409": "Something is in the way: what is ending, or node ports.",
    "413": "The body is too large.",
    "415": "The body is not sent as JSON.",
    "422": "A field makes no sense.",
    "429": "Too many requests, or clients.",
    "503": "The Kubernetes API is in trouble.",
}


def document(*, with_token: bool) -> Json:
    """The whole description; `with_token` says whether this service asks for one."""
    body, parts = order.schema()
    schemas = {
        **parts,
        "Answer": _object(_ANSWER, {**_ANSWER, **_STANDING}),
        "Client": _object(_CLIENT),
        "Refusal": _refusal(),
    }
    told: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "bareboat provision",
            "version": __version__,
            "description": "An image and an ssh key in; a Secret, a Pod and a NodePort Service out.",
        },
        "paths": _paths(body),
        "components": {"schemas": _described(schemas)},
    }
    if with_token:
        told["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        told["security"] = [{"token": []}]
    return told


def _paths(body: Json) -> Json:
    wait: Json = {
        "name": "wait",
        "in": "query",
        "description": "Seconds to wait until the pod is ready.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 600, "default": 0},
    }
    name: Json = {
        "name": "name",
        "in": "path",
        "required": True,
        "description": "The client's name, its Pod's or its Service's.",
        "schema": {"type": "string", "pattern": f"^{NAME.pattern}$"},
    }
    clients = {"type": "object", "required": ["clients"]}
    clients["properties"] = {"clients": {"type": "array", "items": _ref("Client")}}  # type: ignore[assignment]
    deleted = _object({"deleted": _TEXT, "namespace": _TEXT})
    return {
        "/provision": {
            "post": {
                "operationId": "provision",
                "summary": "Make a client, or make it anew.",
                "parameters": [wait],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": body, "example": _EXAMPLE}},
                },
                "responses": _responses(_ref("Answer"), "400", "401", "403", "404", "409", "413", "415", "422"),
            },
            "get": {
                "operationId": "clients",
                "summary": "Every client.",
                "responses": _responses(clients, "401", "403"),
            },
        },
        "/provision/{name}": {
            "get": {
                "operationId": "client",
                "summary": "One client.",
                "parameters": [name, wait],
                "responses": _responses(_ref("Client"), "401", "403", "404", "422"),
            },
            "delete": {
                "operationId": "remove",
                "summary": "Remove a client: its Pod, its Service and its key.",
                "parameters": [name],
                "responses": _responses(deleted, "401", "403", "404", "409"),
            },
        },
    }


def _responses(schema: Json, *statuses: str) -> Json:
    told: Json = {"200": {"description": "Done.", "content": {"application/json": {"schema": schema}}}}
    for status in sorted({*statuses, "429", "503"}):
        told[status] = {
            "description": _REFUSALS[status],
            "content": {"application/json": {"schema": _ref("Refusal")}},
        }
    return told


def _refusal() -> Json:
    fields = {"type": "array", "items": _object({"field": _TEXT, "message": _TEXT})}
    return _object({"error": _TEXT, "fields": fields})


def _object(required: Json, properties: Json | None = None) -> Json:
    return {"type": "object", "required": list(required), "properties": properties or required}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _described(schemas: Json) -> Json:
    """What the types of a body can't say."""
    fields = schemas["Body"]["properties"]
    fields["container_img_url"] |= {
        "description": "Image reference; the pod gets it as it is.",
        "minLength": 1,
        "maxLength": images.LONGEST,
        "format": "image-reference",
    }
    fields["ssh_public_key"] |= {
        "description": f"One line, as in a .pub file, of the types {', '.join(ssh_keys.TYPES)}.",
        "minLength": 1,
        "maxLength": ssh_keys.LONGEST,
        "format": "ssh-public-key",
    }
    fields["port"] |= {
        "description": f"Port of ssh in the container; not {order.HTTP_PORT}, which is HTTP's.",
        "minimum": 1,
        "maximum": 65535,
        "not": {"const": order.HTTP_PORT},
    }
    return schemas

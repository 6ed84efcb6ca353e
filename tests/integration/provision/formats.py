"""What schemathesis can't make up by itself: ssh keys and image references that are valid. Loaded by its command."""

import schemathesis
from hypothesis import strategies as st
from tests.unit.provision import keys

schemathesis.openapi.format(
    "ssh-public-key",
    st.binary(min_size=32, max_size=32).map(lambda key: f"ssh-ed25519 {keys.blob(b'ssh-ed25519', key)} u@example"),
)
schemathesis.openapi.format(
    "image-reference", st.from_regex(r"\A(docker\.io/|localhost:5000/)?[a-z0-9]{1,60}(/[a-z0-9]+)?(:[a-z0-9]{1,9})?\Z")
)

"""The control plane and the installations of the integration tests, for these too."""

from tests.integration.conftest import sandbox as sandbox
from tests.integration.node.conftest import set_up as set_up

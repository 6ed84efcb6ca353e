"""The command of a pod in ssh access: lets our keys in, sees to it that there is an ssh server, and becomes it.

RunPod starts a container again that ends, so this one never does: where no server can be had it says so and waits.
"""

import shlex
from collections.abc import Sequence

MARK = "# bareboat: ssh access"
"""By it a pod's record tells in which way it was booted."""

NO_SERVER = "bareboat: no ssh server in this image, and none could be installed"
PORT = 22

_SCRIPT = """\
umask 077
mkdir -p /root/.ssh /run/sshd && chmod 755 /run/sshd
printf '%s\\n' {keys} >> /root/.ssh/authorized_keys
have() {{ command -v "$1" >/dev/null 2>&1; }}
PATH="$PATH:/usr/sbin:/usr/local/sbin:/sbin"
if ! have sshd; then
  if have apt-get; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends openssh-server
  elif have apk; then apk add --no-cache openssh-server openssh-keygen
  elif have microdnf; then microdnf install -y openssh-server
  elif have dnf; then dnf install -y -q openssh-server
  elif have yum; then yum install -y -q openssh-server
  elif have zypper; then zypper -nq install openssh
  elif have pacman; then pacman -Sy --noconfirm openssh
  fi >/tmp/bareboat-ssh-install.log 2>&1
fi
if have sshd; then
  have ssh-keygen && ssh-keygen -A >/dev/null 2>&1
  exec "$(command -v sshd)" -D -e -p {port} -o PermitRootLogin=prohibit-password -o PasswordAuthentication=no \\
    -o AuthorizedKeysFile=/root/.ssh/authorized_keys -o StrictModes=no -o UsePAM=no -o MaxSessions=100
fi
echo {none}
tail -n 5 /tmp/bareboat-ssh-install.log
trap 'exit 0' TERM
while :; do sleep 3600 & wait $!; done
"""


def command(public_keys: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Entrypoint and arguments."""
    keys = " ".join(shlex.quote(key.strip()) for key in public_keys)
    script = f"{MARK}\n{_SCRIPT.format(keys=keys, port=PORT, none=shlex.quote(NO_SERVER))}"
    return ("/bin/sh", "-c"), (script,)

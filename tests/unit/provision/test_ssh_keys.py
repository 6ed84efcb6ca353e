import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.provision import keys

from bareboat.provision import ssh_keys

ED25519 = keys.blob(b"ssh-ed25519", bytes(32))


@pytest.mark.parametrize(
    "arguments",
    [["ed25519"], ["ecdsa", "-b", "256"], ["ecdsa", "-b", "384"], ["ecdsa", "-b", "521"], ["rsa", "-b", "2048"]],
)
def test_keys_that_ssh_keygen_makes_are_taken_as_they_are(arguments: list[str], tmp_path: Path) -> None:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "user@example", "-f", path, "-t", *arguments], check=True)
    line = path.with_suffix(".pub").read_text()
    assert ssh_keys.parse(line).line == line.strip()


def test_keys_of_hardware_tokens_are_taken() -> None:
    blob = keys.blob(b"sk-ssh-ed25519@openssh.com", bytes(32), b"ssh:")
    assert ssh_keys.parse(f"sk-ssh-ed25519@openssh.com {blob}").comment == ""


def test_comment_does_not_belong_to_the_identity() -> None:
    first, second = ssh_keys.parse(f"ssh-ed25519 {ED25519} a"), ssh_keys.parse(f"ssh-ed25519  {ED25519}   b c \n")
    assert first.identity == second.identity
    assert second.line == f"ssh-ed25519 {ED25519} b c"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        ("no key at all", "begins with 'no'"),
        ("ssh-ed25519", "nothing after"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI... user@example", "where its base64 should be"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI", "where its base64 should be"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "wrong number or length"),
        (f"ssh-rsa {ED25519}", "holds 'ssh-ed25519'"),
        (f"ssh-ed25519 {keys.blob(b'ssh-ed25519', bytes(31))}", "wrong number or length"),
        (f"ssh-ed25519 {keys.blob(b'ssh-ed25519', bytes(32), b'more')}", "wrong number or length"),
        (f"ssh-rsa {keys.blob(b'ssh-rsa', bytes(3), bytes(127))}", "wrong number or length"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIQ==", "cut off"),
        (f'command="id" ssh-ed25519 {ED25519}', "without options"),
        (f"ssh-ed25519 {ED25519}\nssh-ed25519 {ED25519}", "exactly one key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "private key"),
        (f"ssh-dss {keys.blob(b'ssh-dss', bytes(32))}", "begins with 'ssh-dss'"),
        (f"ssh-ed25519 {ED25519} {'x' * 300}", "comment of 300"),
        ("x" * 20_000, "20000 characters"),
    ],
)
def test_what_is_no_key_is_named(text: str, said: str) -> None:
    with pytest.raises(ssh_keys.NoKey, match=said):
        ssh_keys.parse(text)


@given(st.text())
def test_any_text_is_a_key_or_refused(text: str) -> None:
    try:
        assert ssh_keys.parse(text).type in ssh_keys.TYPES
    except ssh_keys.NoKey as no:
        assert str(no)


@given(st.binary(max_size=200), st.sampled_from(ssh_keys.TYPES))
def test_any_bytes_behind_a_type_are_a_key_or_refused(content: bytes, type_: str) -> None:
    try:
        ssh_keys.parse(f"{type_} {keys.blob(type_.encode(), content)}")
    except ssh_keys.NoKey as no:
        assert str(no)

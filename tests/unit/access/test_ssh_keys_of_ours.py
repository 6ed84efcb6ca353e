"""Our key pairs and the ring of them; pins of host keys."""

import asyncssh
import pytest

from bareboat.access import host_keys, keys


def test_a_pair_is_ed25519_and_its_public_line_fits_a_launch() -> None:
    pair = keys.make("bareboat-cluster-1")
    kind, _, comment = pair.public.split(" ")
    assert (kind, comment) == ("ssh-ed25519", "bareboat-cluster-1")
    assert keys.load(pair.private) == pair
    assert pair.private not in repr(pair)
    assert keys.make().public != pair.public


@pytest.mark.parametrize("comment", ["", "two words", "line\nbreak", " x"])
def test_a_comment_is_one_word(comment: str) -> None:
    with pytest.raises(keys.BadKey, match="one word"):
        keys.make(comment)


def test_a_rotation_keeps_the_keys_of_older_instances_and_forgets_the_oldest() -> None:
    first, second, third, fourth = (keys.make() for _ in range(4))
    ring = keys.Ring(first).rotated(second).rotated(third)
    assert ring.all() == (third, second, first)
    assert ring.rotated(fourth).all() == (fourth, third, second)


def test_a_ring_is_the_same_after_a_stay_in_a_secret() -> None:
    ring = keys.Ring(keys.make("a")).rotated(keys.make("b")).rotated(keys.make("c"))
    kept = keys.to_secret(ring)
    assert keys.from_secret(kept) == ring
    assert kept[keys.PUBLIC].strip() == ring.current.public
    assert keys.from_secret({keys.PRIVATE: ring.current.private}) == keys.Ring(ring.current)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data | {keys.PRIVATE: ""}, "ssh-privatekey: there is no private key"),
        (lambda data: data | {keys.PRIVATE: "hello"}, "ssh-privatekey: this is no private key"),
        (lambda data: data | {keys.PREVIOUS: "hello"}, "previous: this is no private key"),
        (lambda data: data | {keys.PRIVATE: _of_another_kind()}, "of type ecdsa-sha2-nistp256"),
        (lambda data: data | {keys.PRIVATE: _locked()}, "without a passphrase"),
    ],
)
def test_a_damaged_secret_is_named_and_never_shown(damage: object, said: str) -> None:
    data = keys.to_secret(keys.Ring(keys.make()))
    with pytest.raises(keys.BadKey, match=said) as caught:
        keys.from_secret(damage(data))  # type: ignore[operator]
    assert data[keys.PRIVATE][60:90] not in str(caught.value)


def test_pins_are_lines_that_survive_being_written_down() -> None:
    line = asyncssh.generate_private_key("ssh-ed25519", comment="host").export_public_key().decode()
    pins = host_keys.Pins()
    assert pins.of("i-1") is None
    pins.pin("i-1", line)
    kept = pins.of("i-1")
    assert kept is not None
    assert kept.split() == line.split()[:2]
    again = host_keys.Pins()
    again.pin("i-1", kept)
    assert again.of("i-1") == kept
    assert host_keys.algorithm(kept) == "ssh-ed25519"
    assert host_keys.fingerprint(kept).startswith("SHA256:")
    pins.forget("i-1")
    pins.forget("i-1")
    assert pins.of("i-1") is None


@pytest.mark.parametrize("line", ["", "hello", "ssh-ed25519 AAAA"])
def test_what_is_no_key_is_no_pin(line: str) -> None:
    with pytest.raises(host_keys.BadPin):
        host_keys.Pins().pin("i-1", line)


def _of_another_kind() -> str:
    return asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_private_key().decode()


def _locked() -> str:
    return asyncssh.generate_private_key("ssh-ed25519").export_private_key("pkcs8-pem", passphrase="p").decode()

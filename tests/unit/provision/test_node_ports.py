from bareboat.provision import node_ports

# As kube-apiserver 1.36 words it.
REFUSAL = 'Service "x" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated'


def test_first_client_gets_the_documented_ports() -> None:
    with node_ports.Held().choosing() as choosing:
        assert choosing.pair(set()) == (30080, 30022)


def test_others_get_the_next_free_ones() -> None:
    with node_ports.Held().choosing() as choosing:
        assert choosing.pair({30080, 30081, 30022, 30024}) == (30082, 30023)


def test_ssh_of_many_clients_never_takes_the_default_of_http() -> None:
    with node_ports.Held().choosing() as choosing:
        assert choosing.pair(set(range(30022, 30080))) == (30080, 30081)


def test_clients_who_come_at_once_get_different_ports() -> None:
    held = node_ports.Held()
    with held.choosing() as first, held.choosing() as second:
        assert first.pair(set()) == (30080, 30022)
        assert second.pair(set()) == (30081, 30023)


def test_choosing_again_lets_the_first_choice_go() -> None:
    held = node_ports.Held()
    with held.choosing() as first, held.choosing() as second:
        first.pair(set())
        assert first.pair({30080}) == (30081, 30022)
        assert second.pair(set()) == (30080, 30023)


def test_ports_are_free_again_after_the_request() -> None:
    held = node_ports.Held()
    with held.choosing() as first:
        first.pair(set())
    with held.choosing() as second:
        assert second.pair(set()) == (30080, 30022)


def test_with_none_left_the_choice_is_the_servers() -> None:
    with node_ports.Held().choosing() as choosing:
        assert choosing.pair(range(30000, 32768)) == (None, None)


def test_refusals_name_the_ports_that_are_taken() -> None:
    assert node_ports.taken(REFUSAL) == {30080}
    assert node_ports.taken("something else") == set()

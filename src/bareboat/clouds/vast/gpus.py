"""How Vast spells the GPUs that it rents out: names compare exactly there, while users write `rtx_4090`."""

from collections.abc import Iterable

from bareboat.core import needs

_LIST = (
    "A10,A100 PCIE,A100 SXM,A100 SXM4,A100X,A16,A30,A40,A800 PCIE,B200,B300,GH200 SXM,H100 NVL,"
    "H100 PCIE,H100 SXM,H200,H200 NVL,L4,L40,L40S,Tesla K20c,Tesla K80,Tesla M40,Tesla P4,Tesla P6,"
    "Tesla P40,Tesla P100,Tesla T4,Tesla V100,GTX 1050,GTX 1050 Ti,GTX 1060,GTX 1070,GTX 1070 Ti,"
    "GTX 1080,GTX 1080 Ti,GTX 1650,GTX 1650 S,GTX 1660,GTX 1660 S,GTX 1660 Ti,RTX 2060,RTX 2060S,"
    "RTX 2070,RTX 2070S,RTX 2080,RTX 2080S,RTX 2080 Ti,RTX 3050,RTX 3060,RTX 3060 laptop,RTX 3060 Ti,"
    "RTX 3070,RTX 3070 laptop,RTX 3070 Ti,RTX 3080,RTX 3080 Ti,RTX 3090,RTX 3090 Ti,RTX 4060,"
    "RTX 4060 laptop,RTX 4060 Ti,RTX 4070,RTX 4070 laptop,RTX 4070S,RTX 4070S Ti,RTX 4070 Ti,RTX 4080,"
    "RTX 4080 laptop,RTX 4080S,RTX 4090,RTX 4090D,RTX 4090 Ti,RTX 5060,RTX 5060 Ti,RTX 5070,RTX 5070 Ti,"
    "RTX 5080,RTX 5090,RTX 5090 Ti,Titan RTX,Titan V,Titan X,Titan Xp,Q RTX 4000,Q RTX 5000,Q RTX 6000,"
    "Q RTX 8000,RTX A2000,RTX A4000,RTX A4500,RTX A5000,RTX A6000,RTX 2000Ada,RTX 4000Ada,RTX 4500Ada,"
    "RTX 5000Ada,RTX 5880Ada,RTX 6000Ada,RTX PRO 4000,RTX PRO 4000 Mobile,RTX PRO 4500,RTX PRO 5000,"
    "RTX PRO 6000,RTX PRO 6000 S,RTX PRO 6000 WS,RTX PRO 6000 Max-Q,InstinctMI50,InstinctMI100,"
    "InstinctMI210,InstinctMI250X,RX 6800,RX 6800 XT,RX 6900 XT,RX 6950 XT,RX 7600,RX 7700 XT,RX 7800 XT,"
    "RX 7900 GRE,RX 7900 XT,RX 7900 XTX"
)
_BY_CANONICAL = {needs.canonical_gpu(name): name for name in _LIST.split(",")}


def spelled(names: Iterable[str]) -> list[str]:
    """What to filter by for names as users write them. One that isn't known is given in several spellings."""
    found: dict[str, None] = {}
    for name in names:
        known = _BY_CANONICAL.get(needs.canonical_gpu(name))
        plain = " ".join(name.replace("_", " ").split())
        found.update(dict.fromkeys([known] if known else [plain, plain.upper(), plain.upper().replace(" TI", " Ti")]))
    return list(found)


def all_known(names: Iterable[str]) -> bool:
    """Whether the spelling of each is certain."""
    return all(needs.canonical_gpu(name) in _BY_CANONICAL for name in names)

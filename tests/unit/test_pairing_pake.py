"""SPAKE2 behind its one importer (SPEC 19.3), and life without its package."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support import seeded

from envelope.errors import PairingError
from envelope.pairing import pake
from envelope.pairing.pake import Pake


def pair(first=b"code", second=b"code"):
    random = seeded()
    one = Pake(first, is_connector=True, random=random)
    return one, Pake(second, is_connector=False, random=random)


def test_one_code_gives_one_key_and_two_codes_two():
    one, other = pair()
    assert one.finish(other.element) == other.finish(one.element)
    one, other = pair(b"code", b"cody")
    assert one.finish(other.element) != other.finish(one.element)


@pytest.mark.parametrize("is_connector", [False, True])
def test_the_identities_are_those_of_the_specification(is_connector):
    ids = {"idA": b"envelope/v1/pair/connect", "idB": b"envelope/v1/pair/listen"}
    kind, side = (pake.SPAKE2_B, b"A") if is_connector else (pake.SPAKE2_A, b"B")
    other = kind(b"code", **ids)
    ours = Pake(b"code", is_connector=is_connector, random=seeded())
    element = other.start()[1:]
    assert ours.finish(element) == other.finish(side + ours.element)


def test_the_secret_comes_from_the_randomness_that_is_given():
    one, again = (Pake(b"code", is_connector=True, random=seeded(1)) for _ in range(2))
    other = Pake(b"code", is_connector=True, random=seeded(2))
    assert one.element == again.element != other.element


def test_an_own_element_is_refused_though_the_package_may_raise_what_it_likes():
    for end in pair():
        with pytest.raises(PairingError, match="came back"):
            end.finish(end.element)


@pytest.mark.parametrize("error", [AssertionError, ValueError, pake.SPAKEError, pake.NotOnCurve])
def test_whatever_the_package_raises_is_one_error_of_ours(error):
    class Broken:
        def finish(self, _):
            raise error

    one, other = pair()
    one._spake = Broken()
    with pytest.raises(PairingError):
        one.finish(other.element)


@pytest.mark.audit("K6")
def test_the_fresh_secret_and_the_code_are_gone_once_the_key_is_there_or_on_demand():
    one, other = pair()
    one.finish(other.element)
    other.forget()
    assert one._spake is other._spake is None


def test_an_element_is_exactly_32_bytes():
    one, other = pair()
    assert len(one.element) == len(other.element) == 32


def test_without_the_package_the_import_says_what_to_install():
    code = (
        "import sys; sys.modules['spake2'] = None\n"
        "try:\n    import envelope.pairing.exchange\n"
        "except ImportError as error:\n    print(error.name, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "spake2 pairing needs its extra: pip install 'signed-envelope[pair]'\n"


def test_the_library_does_not_need_the_package():
    code = (
        "import sys; sys.modules['spake2'] = None\n"
        "import envelope, envelope.zeromq, envelope.cli.app\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

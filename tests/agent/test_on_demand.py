"""What libraries import at once is loaded when it is used, and is then the same as ever. Each test is a Python of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.rigs.certificates import make_certificates

ROOT = Path(__file__).resolve().parents[2]
BEGIN = """\
import sys
from agent import on_demand
from agent.on_demand import MODULES, load_on_demand
load_on_demand()
import asyncio, threading
def loaded(name):
    return name in sys.modules and not isinstance(sys.modules[name], on_demand._OnDemand)
def openssl():
    return "libcrypto" in open("/proc/self/maps").read()
"""


def python(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr


def test_nothing_is_loaded_before_it_is_used():
    python("""
import aiomqtt, hmac, inspect, pydantic, secrets, urllib.request, importlib.metadata, asyncio.sslproto
from importlib.metadata import entry_points

class Model(pydantic.BaseModel):  # asks for plug-ins
    x: int

for module in list(sys.modules.values()):  # as `inspect` and `warnings` do
    getattr(module, "__file__", None), getattr(module, "__warningregistry__", None)
inspect.getmodule(Model)
asyncio.run(asyncio.sleep(0))
assert not [name for name in MODULES if loaded(name)]
assert not openssl()
""")


@pytest.mark.parametrize(
    ("use", "module"),
    [
        ("import ssl; assert ssl.SSLContext.__module__ == 'ssl'", "ssl"),
        ("from ssl import SSLError; assert issubclass(SSLError, OSError)", "ssl"),
        ("import ssl; import ssl as again; again.SSLError; assert again.SSLError is ssl.SSLError", "ssl"),
        (
            "from asyncio.base_events import ssl; import ssl as own; assert own.SSLContext is ssl.SSLContext",
            "ssl",
        ),
        ("asyncio.sslproto.SSLProtocol.__mro__", "asyncio.sslproto"),
        ("from asyncio import sslproto; sslproto.SSLProtocol", "asyncio.sslproto"),
        ("import urllib.request; assert urllib.request.getproxies() is not None", "urllib.request"),
        (
            "from importlib.metadata import entry_points; assert list(entry_points(name='outstation'))",
            "importlib.metadata",
        ),
        ("import importlib.metadata as m; assert m.version('pydantic')", "importlib.metadata"),
        (
            "import importlib.metadata._meta as m; m.SimplePath; import importlib.metadata; importlib.metadata.version('pydantic')",
            "importlib.metadata",
        ),
    ],
)
def test_what_is_used_is_loaded(use, module):
    python(f"{use}\nassert loaded({module!r})\nassert sys.modules[{module!r}].__file__")


def test_what_is_loaded_already_stays():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            (
                "import ssl, hashlib; from agent.on_demand import load_on_demand; load_on_demand();"
                " import sys; assert sys.modules['ssl'] is ssl and ssl.__file__; hashlib.scrypt"
            ),
        ],
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0


def test_a_name_that_a_module_does_not_have_is_missed_as_ever():
    python("""
import ssl
try:
    ssl.no_such_name
except AttributeError as error:
    assert str(error) == "module 'ssl' has no attribute 'no_such_name'", error
else:
    raise AssertionError
""")


def test_many_threads_may_be_the_first():
    python("""
import ssl
sys.setswitchinterval(1e-6)
together, wrong = threading.Barrier(16), []
def use(number):
    together.wait()
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), asyncio.sslproto.SSLAgainErrors[0].__mro__
    except BaseException as error:
        wrong.append(error)
threads = [threading.Thread(target=use, args=(n,)) for n in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not wrong, wrong
assert asyncio.sslproto.SSLAgainErrors[0] is ssl.SSLWantReadError
""")


def test_plug_ins_of_pydantic_are_there_for_who_asks_for_them():
    python("""
import os
assert os.environ["PYDANTIC_DISABLE_PLUGINS"] == "__all__"
os.environ["PYDANTIC_DISABLE_PLUGINS"] = ""  # as if it had been set before
import pydantic
pydantic.create_model("Model", x=(int, 0))
assert loaded("importlib.metadata")
""")


def test_digests_are_the_same_without_openssl():
    python("""
import hashlib, hmac
assert hashlib.sha256(b"x").hexdigest() == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
assert hashlib.new("sha1", b"x").hexdigest() == "11f6ad8ec52a2984abaafd7c3b516503785c2072"
assert hmac.new(b"k", b"x", "sha256").hexdigest()[:16] == "c38edc8815c8489f"
assert hmac.compare_digest(b"a", b"a") and not hashlib.__dict__.get("scrypt")
assert not openssl()
from hashlib import pbkdf2_hmac
assert pbkdf2_hmac("sha1", b"password", b"salt", 2).hex() == "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"  # RFC 6070
assert openssl() and hashlib.scrypt(b"p", salt=b"s", n=2, r=1, p=1)
assert not hasattr(hashlib, "no_such_name")
""")


def test_tls_over_asyncio_works(tmp_path):
    certificates = make_certificates(tmp_path)
    python(
        """
import ssl
async def main(ca, cert, key):
    async def answer(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(cert, key)
    async with await asyncio.start_server(answer, "localhost", 0, ssl=server_side) as server:
        port = server.sockets[0].getsockname()[1]
        try:
            await asyncio.open_connection("localhost", port, ssl=ssl.create_default_context())
        except ssl.SSLCertVerificationError:
            pass
        else:
            raise AssertionError
        reader, writer = await asyncio.open_connection("localhost", port, ssl=ssl.create_default_context(cafile=ca))
        writer.write(b"hello\\n")
        assert await reader.read() == b"hello\\n"
        writer.close()
asyncio.run(main(*sys.argv[1:]))
""",
        certificates.ca_file,
        certificates.server_cert_file,
        certificates.server_key_file,
    )

"""Modules that libraries import at once, and that a run may never use: loaded when they are.

An agent without TLS has no use for OpenSSL, yet asyncio and paho import `ssl`, and `hashlib` its digests: 5 MB of 47. paho
imports `urllib.request` for proxies, pydantic the metadata of all packages for its plug-ins: with what they import
in turn 3 MB more. Python has no setting for that, but its import system has the place for it: `sys.meta_path`.

The stand-in is in `sys.modules` like the module, and loads it when somebody asks for one of its names; whoever
holds the stand-in gets them from the module from then on. `importlib.util.LazyLoader` does the same, but until
Python 3.12.3 a second thread that asks meanwhile finds a module half loaded.

Our own code imports what it needs where it needs it; this is for the code of others.
"""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module
from importlib.machinery import PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from importlib.machinery import ModuleSpec

MODULES: Final[Mapping[str, frozenset[str]]] = {
    "ssl": frozenset(),
    "asyncio.sslproto": frozenset(),  # needs the names of `ssl` to be loaded itself
    "urllib.request": frozenset(),
    "importlib.metadata": frozenset({"entry_points"}),
}
"""What is loaded on demand. With the functions that are taken from it by `from ... import`, which is no use yet: a call is."""
_OPENSSL_ONLY: Final = frozenset({"pbkdf2_hmac", "scrypt"})
"""What `hashlib` has from OpenSSL alone."""

_waiting: set[str] = set()
_lock = threading.Lock()


def load_on_demand() -> None:
    """Load what is in `MODULES`, and OpenSSL, when it is used. Call before anything imports them; what is loaded stays."""
    # What pydantic's plug-ins are for is watching validation; whoever wants them says so by setting it otherwise.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    _waiting.update(MODULES.keys() - sys.modules.keys())
    sys.meta_path.insert(0, _Finder())
    _hash_without_openssl()


def _hash_without_openssl() -> None:
    """Let `hashlib` and `hmac` have the digests that come with Python, as they do where there is no OpenSSL."""
    if "hashlib" in sys.modules or "_hashlib" in sys.modules:
        return
    sys.modules["_hashlib"] = None  # type: ignore[assignment] # the import system's word for 'there is none'
    try:
        import hashlib
        import hmac  # noqa: F401 (asks for OpenSSL, too)
    finally:
        del sys.modules["_hashlib"]
    vars(hashlib).pop("pbkdf2_hmac", None)  # Python 3.11 has a slow one
    hashlib.__getattr__ = _from_openssl  # type: ignore[method-assign] # PEP 562


def _from_openssl(name: str) -> Any:
    if name in _OPENSSL_ONLY:
        return getattr(import_module("_hashlib"), name)
    raise AttributeError(f"module 'hashlib' has no attribute {name!r}")


class _OnDemand(ModuleType):
    """Stands in for a module until it is used."""

    def __getattr__(self, name: str) -> Any:
        # Those who look through all modules (`inspect`, `warnings`) ask for such names: that is no use.
        if name.startswith("__") and self.__name__ in _waiting:
            raise AttributeError(f"module {self.__name__!r} is not loaded yet")
        if name in MODULES[self.__name__] and self.__name__ in _waiting:
            return _function(self.__name__, name)
        return getattr(_loaded(self.__name__), name)


def _function(module: str, name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(_loaded(module), name)(*arguments, **options)

    return call


def _loaded(name: str) -> ModuleType:
    """The module itself. Two threads at a time wait for each other as in any import."""
    with _lock:
        _waiting.discard(name)
        if isinstance(sys.modules.get(name), _OnDemand):
            del sys.modules[name]
    return import_module(name)


class _Finder:
    """Finds stand-ins, before anybody else finds the modules."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What is known of a module that waits to be used, with our loader."""
        spec = PathFinder.find_spec(name, path, target) if name in _waiting else None
        if spec is not None:
            loader: Any = _Loader()  # by its methods, as the import system takes it
            spec.loader = loader
        return spec


class _Loader:
    """Makes stand-ins."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """One for the module of that name."""
        return _OnDemand(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing in it."""

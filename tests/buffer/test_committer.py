"""The thread that commits: what the disk refused is tried again by itself."""

import threading

from buffer import committer as module
from buffer.committer import Committer
from buffer.errors import DiskFault


class RefusingStore:
    def __init__(self, refusals):
        self.refusals = refusals
        self.landed = threading.Event()

    def commit(self):
        if self.refusals:
            self.refusals -= 1
            raise DiskFault("injected")
        self.landed.set()

    def maintain(self):
        raise AssertionError("not asked for here")


def test_a_commit_that_failed_is_tried_again_though_nothing_else_comes(monkeypatch):
    monkeypatch.setattr(module, "_MAINTENANCE_S", 1e6)
    monkeypatch.setattr(module, "_RETRY_FIRST_S", 0.001)
    store, told = RefusingStore(3), []
    committer = Committer(store, window_s=0.001, report=told.append)
    committer.start()
    committer.arrived(10)
    assert store.landed.wait(60)
    committer.stop()
    assert [type(each) for each in told] == [DiskFault] * 3 + [type(None)]

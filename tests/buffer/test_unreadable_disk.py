"""A disk that gives nothing back, whatever is written: said, and not written to for ever."""

import errno

import pytest

from buffer import BufferDB, DiskFault
from buffer.filesystem import SystemFileSystem
from buffer.inspection import Inspection

SEGMENT_BYTES = 4096


class Deaf(SystemFileSystem):
    """Takes everything; while `deaf`, reading fails for these files (by the beginning of their names).

    The directory `unlisted` cannot be listed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.deaf: tuple[str, ...] = ()
        self.deaf_from = 0
        self.created = 0
        self.unlisted = "nothing"
        self._names: dict[int, str] = {}

    def list_directory(self, path):
        if path.endswith(f"/{self.unlisted}"):
            raise OSError(errno.EIO, "Input/output error", path)
        return super().list_directory(path)

    def create(self, path):
        self.created += 1
        return super().create(path)

    def open(self, path, *, write=False):
        handle = super().open(path, write=write)
        self._names[handle] = path.rpartition("/")[2]
        return handle

    def read(self, handle, size, offset):
        if offset >= self.deaf_from and self._names.get(handle, "").startswith(self.deaf or ("nothing",)):
            raise OSError(errno.EIO, "Input/output error")
        return super().read(handle, size, offset)


@pytest.fixture
def disk():
    return Deaf()


@pytest.fixture
def buffer(tmp_path, disk):
    with BufferDB(tmp_path, segment_bytes=SEGMENT_BYTES, fs=disk, threaded=False) as made:
        for n in range(200):
            made.insert({"n": n, "text": "x" * 50})
            if n % 20 == 19:
                made.flush()
        yield made


@pytest.mark.timeout(20)
def test_a_disk_that_gives_nothing_back_costs_nothing(buffer, disk):
    consumer = buffer.consumer("cloud")
    disk.deaf, before = ("s.", "a."), disk.created
    with pytest.raises(DiskFault, match="Input/output error"):
        consumer.take(10)
    assert disk.created == before
    assert buffer.ledger.dropped == 0
    disk.deaf = ()
    assert [record.document["n"] for record in consumer.take(200).records] == list(range(200))


@pytest.mark.timeout(20)
def test_a_file_that_cannot_be_read_costs_itself_alone(buffer, disk, tmp_path):
    consumer = buffer.consumer("cloud")
    first = min(path.name for path in (tmp_path / "readings").glob("s.*"))
    disk.deaf = (first,)
    taken = [record.document["n"] for record in consumer.take(200).records]
    buffer.flush()
    assert taken == list(range(taken[0], 200))
    assert 0 < buffer.ledger.dropped == taken[0]


@pytest.mark.timeout(20)
def test_a_file_that_stays_unreadable_however_often_it_is_written_anew_is_not_written_for_ever(buffer, disk):
    consumer = buffer.consumer("cloud")
    disk.deaf, disk.deaf_from, before = (
        ("s.",),
        1,
        disk.created,
    )  # as a whole it can be read, from its second byte not
    with pytest.raises(DiskFault, match=r"though written anew: .*Input/output error"):
        consumer.take(10)
    assert disk.created - before <= 3


@pytest.mark.timeout(20)
def test_a_table_that_cannot_be_looked_for_is_not_taken_for_one_that_is_not_there(buffer, disk, tmp_path):
    buffer.table("notes").insert({"text": "kept"})
    buffer.close()
    with BufferDB(tmp_path, fs=disk, threaded=False) as again:
        disk.unlisted = "notes"
        for look in (
            lambda: again.drop_table("notes"),
            again.drop_tables,
            again.tables,
            lambda: again.table("notes").all(),
            lambda: again.table("notes").remove(doc_ids=[1]),
            lambda: list(Inspection(tmp_path, fs=disk).tables()),
        ):
            with pytest.raises((DiskFault, OSError), match="Input/output error"):
                look()
        disk.unlisted = "nothing"
        assert [each["text"] for each in again.table("notes")] == ["kept"]
        again.drop_table("notes")
        assert again.tables() == {"readings"}

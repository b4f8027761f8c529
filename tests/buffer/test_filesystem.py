"""The real file system behind the seam: what is written past the cache is what is read."""

import io
import os
import random
from errno import EINVAL, EIO, EOPNOTSUPP
from pathlib import Path

import pytest

from buffer import BufferDB, filesystem
from buffer.filesystem import BLOCK_BYTES, SPACES, SystemFileSystem
from buffer.writer import PREFILL_BYTES
from tests.rigs.faulty_disk import FaultyDisk

BLOCKS = [1, 3, 64, 65, 200]


@pytest.fixture
def fs():
    return SystemFileSystem()


def pieces_of(rng, blocks):
    """Pieces of any size, an empty one too, that are so many blocks together."""
    data = rng.randbytes(blocks * BLOCK_BYTES)
    cuts = sorted(rng.sample(range(len(data)), 5))
    return [data[low:high] for low, high in zip([0, *cuts], [*cuts, len(data)], strict=True)] + [b""]


def read(fs, path):
    handle = fs.open(path)
    try:
        return fs.read(handle, fs.size(handle), 0)
    finally:
        fs.close(handle)


@pytest.mark.parametrize("bypass", [True, False])
@pytest.mark.parametrize("blocks", BLOCKS)
def test_pieces_are_read_as_they_were_written(fs, tmp_path, blocks, bypass):
    path = str(tmp_path / "file")
    rng = random.Random(blocks)
    handle = fs.create(path)
    expected = bytearray()
    if bypass:
        fs.bypass_cache(handle)
    for at in (0, blocks // 2, blocks, 0):
        pieces = pieces_of(rng, blocks)
        grows = (at + blocks) * BLOCK_BYTES > len(expected)
        fs.write_durably(handle, pieces, at * BLOCK_BYTES, grows=grows)
        expected[at * BLOCK_BYTES : (at + blocks) * BLOCK_BYTES] = b"".join(pieces)
        assert read(fs, path) == expected  # a page that was read before is not read again as it was
    fs.truncate(handle, 5000)
    fs.close(handle)
    assert read(fs, path) == expected[:5000]


@pytest.mark.parametrize("taken", [0, 1, 3])
@pytest.mark.parametrize("grows", [True, False])
def test_a_disk_that_turns_out_to_need_its_cache_gets_it(fs, tmp_path, monkeypatch, taken, grows):
    path = str(tmp_path / "file")
    handle = fs.create(path)
    fs.write(handle, bytes(0 if grows else 3 * BLOCK_BYTES), 0)
    fs.bypass_cache(handle)
    pwrite, answers = os.pwrite, iter([True] * taken + [False])

    def picky(target, data, offset):
        if not isinstance(data, memoryview):
            return pwrite(target, data, offset)
        if next(answers, False):
            return pwrite(target, data[:BLOCK_BYTES], offset)
        raise OSError(EINVAL, "no such alignment")

    monkeypatch.setattr(os, "pwrite", picky)
    monkeypatch.setattr(os, "pwritev", lambda target, buffers, offset, _: picky(target, buffers[0], offset))
    data = random.Random(1).randbytes(3 * BLOCK_BYTES)
    fs.write_durably(handle, [data], 0, grows=grows)
    fs.close(handle)
    assert read(fs, path) == data


@pytest.mark.parametrize("taken", [0, 1, 3])
@pytest.mark.parametrize("refuses", [True, False])
def test_spaces_written_ahead_are_all_there_however_the_disk_takes_them(
    fs, tmp_path, monkeypatch, taken, refuses
):
    path = str(tmp_path / "file")
    handle = fs.create(path)
    fs.bypass_cache(handle)
    pwrite, calls = os.pwrite, iter([True] * taken + [False])

    def picky(target, buffers, offset):
        data = b"".join(buffers)
        if next(calls, False):
            return pwrite_around(target, data[: 5 * BLOCK_BYTES], offset)
        if refuses:
            raise OSError(EINVAL, "no such alignment")
        return pwrite_around(target, data, offset)

    def pwrite_around(target, data, offset):
        with Path(path).open(
            "r+b"
        ) as around:  # memory of any alignment, which the disk itself might not take
            return pwrite(around.fileno(), data, offset)

    monkeypatch.setattr(os, "pwritev", picky)
    start = b"x" * (BLOCK_BYTES - 3) + b"\n}}"
    fs.write_durably(handle, [start, SPACES, SPACES, SPACES[:BLOCK_BYTES]], 0, grows=True)
    fs.close(handle)
    assert read(fs, path) == start + b" " * (2 * len(SPACES) + BLOCK_BYTES)


def test_a_kernel_that_cannot_write_and_sync_in_one_does_both(fs, tmp_path, monkeypatch):
    path = str(tmp_path / "file")
    handle = fs.create(path)
    fs.write(handle, bytes(BLOCK_BYTES), 0)
    fs.bypass_cache(handle)
    synced = []

    def refuse(*_):
        raise OSError(EOPNOTSUPP, "no such flag")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", refuse)
        patch.setattr(os, "fdatasync", synced.append)
        fs.write_durably(handle, [b"x" * BLOCK_BYTES], 0, grows=False)
    assert synced == [handle]
    fs.close(handle)
    assert read(fs, path) == b"x" * BLOCK_BYTES


@pytest.mark.parametrize("major", [0, 8])
def test_only_what_is_right_on_a_disk_is_asked_to_write_and_sync_in_one(fs, tmp_path, monkeypatch, major):
    handle = fs.create(str(tmp_path / "file"))
    fs.write(handle, bytes(BLOCK_BYTES), 0)
    monkeypatch.setattr(os, "major", lambda _: major)
    past_the_cache = fs.bypass_cache(handle) > 1
    synced = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", synced.append)
        fs.write_durably(handle, [b"x" * BLOCK_BYTES], 0, grows=False)
    assert synced == ([] if major and past_the_cache else [handle])
    fs.close(handle)


@pytest.mark.parametrize("call", ["pwrite", "pwritev"])
def test_an_error_of_the_disk_is_no_reason_to_try_again(fs, tmp_path, monkeypatch, call):
    handle = fs.create(str(tmp_path / "file"))
    fs.bypass_cache(handle)
    calls = []

    def refuse(*_):
        calls.append(1)
        raise OSError(EIO, "worn out")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(OSError, match="worn out"):
            fs.write_durably(handle, [bytes(BLOCK_BYTES)], 0, grows=call == "pwrite")
    assert len(calls) == 1
    fs.close(handle)


def test_an_open_file_is_known_by_its_name_until_it_is_removed_or_replaced(fs, tmp_path):
    path = str(tmp_path / "file")
    handle = fs.create(path)
    assert fs.in_place(handle, path)
    fs.rename(path, path + ".moved")
    assert not fs.in_place(handle, path)
    assert fs.in_place(handle, path + ".moved")
    assert not fs.in_place(handle, path + ".moved/below")
    fs.close(fs.create(path))
    assert not fs.in_place(handle, path)
    fs.close(handle)
    again = fs.open(path, write=True)  # likely under the same number
    assert fs.in_place(again, path)
    fs.close(again)


@pytest.mark.parametrize("asked_by", ["statx", "fstat"])
def test_an_open_file_is_removed_when_it_has_no_name(fs, tmp_path, monkeypatch, asked_by):
    if asked_by == "fstat":
        monkeypatch.setattr(filesystem, "_statx", lambda *_: -1)
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    one, other = fs.create(first), fs.create(second)
    assert [fs.removed(one), fs.removed(other)] == [False, False]
    fs.rename(second, first)
    assert [fs.removed(one), fs.removed(other)] == [True, False]
    fs.close(one)
    fs.close(other)
    again = fs.create(second)  # likely under the same number
    assert not fs.removed(again)
    fs.unlink(second)
    assert fs.removed(again)
    fs.close(again)


def test_a_commit_asks_for_no_times_of_its_file(tmp_path, monkeypatch):
    """A file whose times were asked for gets new ones with the next write, and so its inode is written, too."""
    db = BufferDB(tmp_path / "b", threaded=False)
    db.insert_json([b"{}"])
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", asked.append)
        patch.setattr(os, "fstat", asked.append)
        db.flush()
    assert db.durable_id() == 1
    assert not asked
    db.close()


def test_blocks_are_of_the_size_that_the_disk_states(fs, tmp_path):
    path = tmp_path / "file"
    handle = fs.create(str(path))
    stated = fs.bypass_cache(handle)
    assert stated in {1, 512, 1024, 2048, 4096}
    if stated > 1:
        fs.write_durably(handle, [b"x" * (3 * stated)], 0, grows=True)
        fs.write_durably(handle, [b"y" * stated], stated, grows=False)
    else:
        fs.write_durably(handle, [b"xyx"], 0, grows=True)
    fs.close(handle)
    assert read(fs, str(path)) == b"x" * stated + b"y" * stated + b"x" * stated


@pytest.mark.parametrize("stated", ["512\n", "4096\n", "16384\n", "513\n", "none\n", None])
def test_a_strange_block_size_is_not_believed(monkeypatch, stated):
    def said(path, *_):
        if stated is None:
            raise FileNotFoundError(path)
        assert path.startswith("/sys/dev/block/7:3/")
        return io.BytesIO(stated.encode())

    monkeypatch.setattr("builtins.open", said)
    assert filesystem._block_bytes(os.makedev(7, 3)) == (512 if stated == "512\n" else 4096)


def test_a_commit_writes_the_blocks_that_change_and_no_others():
    """512-byte blocks: a frame of 340 bytes changes one or two of them; now and then space is written ahead."""
    disk = FaultyDisk(random.Random(1))
    db = BufferDB("/store", fs=disk, threaded=False)
    document = b'{"pad":"%s"}' % (b"x" * 217)
    db.insert_json([document])
    db.flush()  # the first one notes that the buffer is open, too
    written = []
    for _ in range(40):
        before = db.bytes_written
        db.insert_json([document])
        db.flush()
        written.append(db.bytes_written - before)
    (ahead,) = [each for each in written if each > PREFILL_BYTES // 2]
    written.remove(ahead)
    assert set(written) == {512, 1024}
    assert sum(written) < 39 * (340 + 512 + 10)
    db.close()

from agent.resumption import newest_readings
from collectors.models import Reading


class Buffer:
    def __init__(self, documents):
        self.documents = documents

    async def visit_recent(self, n, visit, *, table):
        assert table == "readings"
        for record_id, document in enumerate(self.documents[-n:], start=1):
            visit(record_id, document)


def document(source, n, *, boot=3):
    return Reading(source=source, t=n, values={"n": n}, boot=boot, up=n).to_document()


async def test_the_newest_of_each_source_in_order():
    stored = [document(source, n) for n in range(1, 101) for source in ("soil", "hall", "other")]
    found = await newest_readings(Buffer(stored), {"soil": 3, "hall": 2, "new": 5}, table="readings", boot=3)
    assert {source: [reading.values["n"] for reading in readings] for source, readings in found.items()} == {
        "soil": [98, 99, 100],
        "hall": [99, 100],
        "new": [],
    }


async def test_uptimes_of_other_boots_are_left_out_and_what_is_no_reading_is_passed_over():
    stored = [document("soil", 1, boot=2), {"source": "soil", "t": "?"}, {"x": 1}, document("soil", 2)]
    found = await newest_readings(Buffer(stored), {"soil": 9}, table="readings", boot=3)
    assert [(reading.values["n"], reading.up) for reading in found["soil"]] == [(1, 0), (2, 2)]

"""Properties 2 and 3: what is collected says where it is from; what is parsed is complete."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import CollectedData, ParsedMetadata
from collectors.mocks import MockDataSource
from tests.contract.implementations import PARSERS, PATIENCE_S
from tests.contract.source_rigs import SOURCES
from tests.contract.strategies import EXAMPLES, json_values, names


def assert_complete(data: CollectedData, source_id: str) -> None:
    assert isinstance(data, CollectedData)
    assert data.source_id == source_id
    assert data.timestamp.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - data.timestamp) < timedelta(minutes=1)
    assert data.data_format
    assert data.collection_method
    assert isinstance(data.raw_data, bytes)
    assert isinstance(data.metadata, dict)


@pytest.mark.parametrize("source_name", SOURCES)
async def test_02_a_sample_is_complete(source_name):
    async with SOURCES[source_name]() as rig, asyncio.timeout(PATIENCE_S):
        await rig.source.connect()
        try:
            await rig.deliver()
            assert_complete(await rig.source.collect(), rig.source.get_source_id())
        finally:
            await rig.source.disconnect()


@pytest.mark.parametrize("source_name", SOURCES)
async def test_02_every_sample_of_a_stream_is_complete(source_name):
    async with SOURCES[source_name]() as rig, asyncio.timeout(PATIENCE_S):
        await rig.source.connect()
        try:
            await rig.deliver()
            seen = 0
            async with aclosing(rig.source.collect_stream()) as stream:
                async for data in stream:
                    assert_complete(data, rig.source.get_source_id())
                    seen += 1
                    if seen == 3:
                        break
                    await rig.deliver()
            assert seen == 3
        finally:
            await rig.source.disconnect()


@EXAMPLES
@given(source_id=names, data=st.binary(max_size=50), data_format=names)
async def test_02_whatever_the_bytes(source_id, data, data_format):
    source = MockDataSource(source_id, data, data_format=data_format)
    await source.connect()
    sample = await source.collect()
    assert_complete(sample, source_id)
    assert (sample.raw_data, sample.data_format) == (data, data_format)


@pytest.mark.parametrize("source_name", SOURCES)
async def test_a_source_that_is_not_connected_says_so(source_name):
    async with SOURCES[source_name]() as rig:
        assert isinstance(rig.source.get_source_id(), str)
        assert rig.source.get_source_id()
        await rig.source.disconnect()  # harmless after a missing connect
        with pytest.raises(ConnectionError):
            await rig.source.collect()
        with pytest.raises(ConnectionError):
            await anext(aiter(rig.source.collect_stream()))


@pytest.mark.parametrize("source_name", SOURCES)
async def test_a_source_can_be_connected_again(source_name):
    async with SOURCES[source_name]() as rig, asyncio.timeout(PATIENCE_S):
        for _ in range(2):
            await rig.source.connect()
            await rig.deliver()
            await rig.source.collect()
            await rig.source.disconnect()
            await rig.source.disconnect()


metadata = st.dictionaries(
    st.sampled_from(["quality", "tags", "frame_error", "up_ns"]) | st.text(max_size=5),
    json_values | st.floats() | st.dictionaries(st.text(max_size=3), st.floats() | st.integers()),
    max_size=4,
)


@pytest.mark.parametrize("parser_name", PARSERS)
@EXAMPLES
@given(
    source_id=names,
    raw_data=st.binary(max_size=20),
    data_format=st.sampled_from(["json", "xml"]),
    metadata=metadata,
)
async def test_03_whatever_is_parsed_has_schema_quality_and_attributes(
    parser_name, source_id, raw_data, data_format, metadata
):
    parser = PARSERS[parser_name]()
    data = CollectedData(
        source_id=source_id,
        timestamp=datetime.now(UTC),
        data_format=data_format,
        collection_method="test",
        raw_data=raw_data,
        metadata=metadata,
    )
    parsed = await parser.parse(data)
    assert isinstance(parsed, ParsedMetadata)
    assert parsed.schema["data_format"] == data_format
    assert all(isinstance(value, float) for value in parsed.quality_indicators.values())
    assert parsed.source_attributes["source_id"] == source_id
    assert parsed.is_valid == (not parsed.validation_errors)
    assert await parser.validate(parsed) == parsed.is_valid


@pytest.mark.parametrize("parser_name", PARSERS)
async def test_a_parser_takes_samples_only(parser_name):
    with pytest.raises(ValueError):
        await PARSERS[parser_name]().parse({"not": "a sample"})


@pytest.mark.parametrize("parser_name", PARSERS)
async def test_incomplete_metadata_is_not_valid(parser_name):
    parser = PARSERS[parser_name]()
    empty = ParsedMetadata(schema={}, quality_indicators={}, source_attributes={}, is_valid=True)
    assert not await parser.validate(empty)

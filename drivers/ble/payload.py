"""Which advertisements a source means, and which of their bytes are the measurement. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.ble.scan import Want, company_patterns, service_patterns
from drivers.codecs.advertisement import encode, parse
from drivers.codecs.bluetooth_uuid import shown_uuid
from drivers.codecs.makers import MAKERS

if TYPE_CHECKING:
    from drivers.ble.config import BleConfig
    from drivers.codecs.advertisement import Advertisement


class Payload:
    """What one source takes.

    A codec for advertisements (`drivers.codecs.makers`) gets all that was heard, since it may need the address or the name.
    Any other codec gets the data of the company or of the service that the source filters by, and nothing else.

    Args:
        config: The filters.
        data_format: The codec.

    Raises:
        ValueError: It does not follow which data is meant.
    """

    def __init__(self, config: BleConfig, data_format: str) -> None:
        config.check_codec(data_format)
        self._config = config
        self._maker = MAKERS.get(data_format)
        self._service = config.service if self._maker is None else self._maker.service
        self.one_sensor = config.address is not None and len(config.address) == 1
        """Whether no other sensor can be meant."""
        self.want = Want(config.scan, self._patterns())
        """The scan that it takes; another object when that has changed."""

    def needs_repetitions(self) -> None:
        """The data has no number, so that its repetitions count, and a passive scan tells changes only."""
        if self.want.patterns and self._config.scan == "auto":
            self.want = Want("auto")

    def _patterns(self) -> tuple[tuple[int, int, bytes], ...]:
        config = self._config
        if config.name is not None:
            return ()  # a passive scan may never hear it
        if config.scan == "auto" and not config.numbered and self._maker is None:
            return ()  # see `needs_repetitions`
        if self._service is not None:
            return service_patterns(self._service)
        if config.manufacturer is not None:
            return company_patterns(config.manufacturer)
        return ()

    @property
    def called(self) -> str:
        """What its data is called."""
        if self._service is not None:
            return f"data of the service {shown_uuid(self._service)}"
        if self._config.manufacturer is not None:
            return f"data of the company 0x{self._config.manufacturer:04X}"
        return "data of any company"

    def fits(self, advertisement: Advertisement) -> bool:
        """Whether a sensor is meant."""
        config = self._config
        return (
            (config.address is None or advertisement.address in config.address)
            and config.names_fit(advertisement.name)
            and (
                config.service is None
                or config.service in advertisement.service_data
                or config.service in advertisement.services
            )
            and (config.manufacturer is None or config.manufacturer in advertisement.manufacturer_data)
        )

    def measured(self, advertisement: Advertisement) -> bytes | None:
        """The bytes that change with the measurement; None when it has none of them."""
        if self._service is not None:
            return advertisement.service_data.get(self._service)
        if self._maker is None:
            assert self._config.manufacturer is not None
            return advertisement.manufacturer_data.get(self._config.manufacturer)
        found = advertisement.manufacturer_data
        return b"".join(company.to_bytes(2, "little") + found[company] for company in sorted(found)) or None

    def measured_in(self, raw: bytes) -> bytes | None:
        """The same bytes, in what the codec gets."""
        return raw if self._maker is None else self.measured(parse(raw))

    def is_numbered(self, measured: bytes) -> bool:
        """Whether the measurement carries a number of its own."""
        if self._config.numbered is not None:
            return self._config.numbered
        return self._maker is not None and self._maker.is_numbered(measured)

    def raw(self, advertisement: Advertisement, measured: bytes) -> bytes:
        """What the codec gets."""
        return measured if self._maker is None else encode(advertisement)

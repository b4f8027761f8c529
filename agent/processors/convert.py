"""Convert: a metric in another unit of the same kind.

Unit names are those of SenML (RFC 8428, section 12.1, and RFC 8798) where it has one, else the usual ones. Factors
are the exact definitions of the SI brochure and of the international yard and pound.
"""

import math
from typing import Final, NamedTuple, Self

from pydantic import model_validator

from agent.processors.reading_step import ReadingStep, StepOptions, marked, number_of, with_number
from collectors.enums import QualityFlag
from collectors.models import Name, Reading
from collectors.suggestion import nearest


class Unit(NamedTuple):
    """A unit: the base unit's amount is value x factor + offset."""

    kind: str
    factor: float
    offset: float = 0.0


_LB = 0.45359237
_FT = 0.3048
_GAL = 3.785411784e-3
_PSI = _LB * 9.80665 / (_FT / 12) ** 2

UNITS: Final[dict[str, Unit]] = {
    "K": Unit("temperature", 1.0),
    "Cel": Unit("temperature", 1.0, 273.15),
    "degF": Unit("temperature", 5 / 9, 459.67 * 5 / 9),
    "Pa": Unit("pressure", 1.0),
    "hPa": Unit("pressure", 100.0),
    "kPa": Unit("pressure", 1000.0),
    "mbar": Unit("pressure", 100.0),
    "bar": Unit("pressure", 1e5),
    "psi": Unit("pressure", _PSI),
    "mmHg": Unit("pressure", 133.322387415),
    "inHg": Unit("pressure", 3386.388640341),
    "m": Unit("length", 1.0),
    "mm": Unit("length", 1e-3),
    "cm": Unit("length", 1e-2),
    "km": Unit("length", 1e3),
    "in": Unit("length", _FT / 12),
    "ft": Unit("length", _FT),
    "mi": Unit("length", _FT * 5280),
    "m/s": Unit("velocity", 1.0),
    "km/h": Unit("velocity", 1 / 3.6),
    "mph": Unit("velocity", _FT * 5280 / 3600),
    "kn": Unit("velocity", 1852 / 3600),
    "kg": Unit("mass", 1.0),
    "g": Unit("mass", 1e-3),
    "mg": Unit("mass", 1e-6),
    "lb": Unit("mass", _LB),
    "oz": Unit("mass", _LB / 16),
    "m3": Unit("volume", 1.0),
    "l": Unit("volume", 1e-3),
    "ml": Unit("volume", 1e-6),
    "gal": Unit("volume", _GAL),
    "m3/s": Unit("flow", 1.0),
    "m3/h": Unit("flow", 1 / 3600),
    "l/s": Unit("flow", 1e-3),
    "l/min": Unit("flow", 1e-3 / 60),
    "gal/min": Unit("flow", _GAL / 60),
    "J": Unit("energy", 1.0),
    "kJ": Unit("energy", 1e3),
    "Wh": Unit("energy", 3600.0),
    "kWh": Unit("energy", 3.6e6),
    "W": Unit("power", 1.0),
    "mW": Unit("power", 1e-3),
    "kW": Unit("power", 1e3),
    "V": Unit("voltage", 1.0),
    "mV": Unit("voltage", 1e-3),
    "kV": Unit("voltage", 1e3),
    "A": Unit("current", 1.0),
    "mA": Unit("current", 1e-3),
    "Hz": Unit("frequency", 1.0),
    "kHz": Unit("frequency", 1e3),
    "1/min": Unit("frequency", 1 / 60),
    "rad": Unit("angle", 1.0),
    "deg": Unit("angle", math.pi / 180),
    "s": Unit("time", 1.0),
    "ms": Unit("time", 1e-3),
    "min": Unit("time", 60.0),
    "h": Unit("time", 3600.0),
    "/": Unit("ratio", 1.0),
    "%": Unit("ratio", 1e-2),
    "ppm": Unit("ratio", 1e-6),
    "ppb": Unit("ratio", 1e-9),
}


def _unit(name: str) -> Unit:
    found = UNITS.get(name)
    if found is None:
        meant = nearest(name, UNITS)
        hint = f"did you mean {meant!r}? " if meant is not None else ""
        raise ValueError(f"no unit is named {name!r}: {hint}there are {', '.join(UNITS)}")
    return found


class ConvertOptions(StepOptions):
    """`[[pipeline.step]] processor = "convert"`."""

    metric: Name
    """The metric that is converted."""
    to: str
    """The unit that is wanted."""
    unit: str | None = None
    """The unit that the metric has, for sources that do not say it."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        wanted = _unit(self.to)
        if self.unit is not None and _unit(self.unit).kind != wanted.kind:
            raise ValueError(f"{self.unit!r} is a {_unit(self.unit).kind}, {self.to!r} is a {wanted.kind}")
        return self


class Convert(ReadingStep):
    """Converts one metric. Texts and truth values stay as they are."""

    def __init__(self, options: ConvertOptions) -> None:
        super().__init__(f"convert:{options.metric}")
        self._options = options
        self._to = _unit(options.to)

    def apply(self, reading: Reading) -> Reading:
        """The reading with the metric in the wanted unit.

        Raises:
            ValueError: It has no unit, one that is not known, or one of another kind.
        """
        options = self._options
        value = number_of(reading, options.metric)
        if value is None:
            return reading
        named = reading.units.get(options.metric) or options.unit
        if named is None:
            raise ValueError(f"{options.metric} has no unit: say in `unit` which one it is")
        if named == options.to:
            return reading.changed(units={**reading.units, options.metric: named})
        unit = _unit(named)
        if unit.kind != self._to.kind:
            raise ValueError(
                f"{options.metric} is in {named}, a {unit.kind}; {options.to} is a {self._to.kind}"
            )
        result = (value * unit.factor + unit.offset - self._to.offset) / self._to.factor
        if not math.isfinite(result):
            return marked(reading, options.metric, QualityFlag.BAD, "conversion overflows")
        return with_number(reading, options.metric, result, options.to)

"""Unit conversion with exact factors: length, mass, volume, speed and temperature."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class UnitError(ValueError):
    """A unit is unknown, or the two units measure different things; the message lists what is possible."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """One unit: a value times `factor` plus `offset` is the value in the base unit of its `kind`."""

    symbol: str
    kind: str
    factor: float
    offset: float = 0.0


_MILE = 1609.344
_FOOT = 0.3048
_GALLON = 3.785411784
_IMPERIAL_GALLON = 4.54609
_POUND = 0.45359237

# kind → symbol → (factor to the base unit, other spellings). Bases: metre, kilogram, litre, metre per second.
_TABLE: Mapping[str, Mapping[str, tuple[float, str]]] = {
    "length": {
        "mm": (0.001, "millimetre millimeter"),
        "cm": (0.01, "centimetre centimeter"),
        "m": (1.0, "metre meter"),
        "km": (1000.0, "kilometre kilometer"),
        "in": (0.0254, "inch inches"),
        "ft": (_FOOT, "foot feet"),
        "yd": (0.9144, "yard"),
        "mi": (_MILE, "mile"),
        "nmi": (1852.0, "nautical_mile"),
    },
    "mass": {
        "mg": (1e-6, "milligram"),
        "g": (0.001, "gram gramme"),
        "kg": (1.0, "kilogram kilo"),
        "t": (1000.0, "tonne metric_ton"),
        "oz": (_POUND / 16, "ounce"),
        "lb": (_POUND, "pound lbs"),
        "st": (_POUND * 14, "stone"),
    },
    "volume": {
        "ml": (0.001, "millilitre milliliter"),
        "cl": (0.01, "centilitre centiliter"),
        "l": (1.0, "litre liter"),
        "tsp": (_GALLON / 768, "teaspoon"),
        "tbsp": (_GALLON / 256, "tablespoon"),
        "fl oz": (_GALLON / 128, "fluid_ounce"),
        "cup": (_GALLON / 16, ""),
        "pt": (_GALLON / 8, "pint"),
        "qt": (_GALLON / 4, "quart"),
        "gal": (_GALLON, "gallon us_gallon"),
        "imp gal": (_IMPERIAL_GALLON, "imperial_gallon"),
    },
    "speed": {
        "m/s": (1.0, "metre_per_second meter_per_second metres_per_second meters_per_second mps"),
        "km/h": (1000 / 3600, "kilometre_per_hour kilometer_per_hour kilometres_per_hour kilometers_per_hour kmh kph"),
        "mph": (_MILE / 3600, "mile_per_hour miles_per_hour"),
        "kn": (1852 / 3600, "knot"),
    },
}
# Base: kelvin.
_TEMPERATURES = (
    (Unit(symbol="°C", kind="temperature", factor=1.0, offset=273.15), "c celsius degrees_celsius centigrade"),
    (
        Unit(symbol="°F", kind="temperature", factor=5 / 9, offset=459.67 * 5 / 9),
        "f fahrenheit degrees_fahrenheit",
    ),
    (Unit(symbol="K", kind="temperature", factor=1.0), "kelvin"),
)


def _spellings() -> Mapping[str, Unit]:
    known: dict[str, Unit] = {}
    for kind, units in _TABLE.items():
        for symbol, (factor, others) in units.items():
            unit = Unit(symbol=symbol, kind=kind, factor=factor)
            for word in (symbol, *others.split()):
                known[word.replace("_", " ")] = known[f"{word.replace('_', ' ')}s"] = unit
    for unit, others in _TEMPERATURES:
        for word in (unit.symbol.lower(), *others.split()):
            known[word.replace("_", " ")] = unit
    return MappingProxyType(known)


_UNITS = _spellings()


def _symbols(kind: str = "") -> str:
    return ", ".join(dict.fromkeys(unit.symbol for unit in _UNITS.values() if kind in ("", unit.kind)))


def unit(name: str) -> Unit:
    """Return the unit that is written `name`: a symbol or an English word, singular or plural.

    Raises:
        UnitError: No such unit; the message lists those that exist.
    """
    found = _UNITS.get(" ".join(name.lower().split()))
    if found is None:
        raise UnitError(f"Unknown unit {name!r}. Known units: {_symbols()}.")
    return found


def convert(value: float, source: str, target: str) -> tuple[float, Unit, Unit]:
    """Convert `value` between two units of one kind; returns the result and both units.

    Raises:
        UnitError: A unit is unknown, or they measure different things.
    """
    before, after = unit(source), unit(target)
    if before.kind != after.kind:
        raise UnitError(
            f"{source!r} is a unit of {before.kind} and {target!r} of {after.kind}. "
            f"Units of {before.kind}: {_symbols(before.kind)}."
        )
    # Twelve digits hide the noise of binary fractions and keep every figure of an exact factor.
    return float(f"{(value * before.factor + before.offset - after.offset) / after.factor:.12g}"), before, after

"""JSON Schema's keywords: where subschemas stand, what values may be, how older drafts spelled the same."""

from collections.abc import Callable, Mapping
from typing import Any, cast

IN_PLACE = frozenset(
    "items additionalProperties not if then else contains propertyNames unevaluatedProperties unevaluatedItems".split()
)
"""The value is a schema."""
IN_LIST = frozenset("allOf anyOf oneOf prefixItems".split())
"""The value is a list of schemas."""
IN_MAP = frozenset("properties patternProperties dependentSchemas".split())
"""The value is an object whose values are schemas."""
REFUSED = frozenset("$dynamicRef $recursiveRef".split())
"""What they mean depends on where one comes from, so they cannot be inlined."""

_TYPES = frozenset("null boolean object array number string integer".split())


def faulty(key: str, value: Any) -> str:
    """Why `value` is no value of the keyword; empty when it is one, or the keyword is not known."""
    test = _VALUES.get(key)
    return "" if test is None or test[0](value) else f"it must be {test[1]}"


def modernised(schema: Mapping[str, Any]) -> dict[str, Any]:
    """One level of a schema as draft 2020-12 spells it, without keywords that are null, which some servers list."""
    out = {key: value for key, value in schema.items() if value is not None or key in ("const", "default")}
    if isinstance(out.get("required"), bool):  # draft 3, still seen: the parameter says of itself that it is required
        del out["required"]
    if isinstance(out.get("items"), list):
        out = {("prefixItems" if key == "items" else key): value for key, value in out.items()}
        if "additionalItems" in out:
            out["items"] = out["additionalItems"]
    out.pop("additionalItems", None)
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        flag = out.get(exclusive)
        if isinstance(flag, bool):
            del out[exclusive]
            if flag and bound in out:
                out[exclusive] = out.pop(bound)
    dependencies = out.get("dependencies")
    if isinstance(dependencies, Mapping):
        del out["dependencies"]
        named = cast("Mapping[str, Any]", dependencies)
        names: dict[str, Any] = {key: value for key, value in named.items() if isinstance(value, list)}
        schemas = {key: value for key, value in named.items() if key not in names}
        out |= ({"dependentRequired": names} if names else {}) | ({"dependentSchemas": schemas} if schemas else {})
    return out


def _is_type(value: Any) -> bool:
    kinds = cast("list[Any]", value) if isinstance(value, list) else [value]
    return bool(kinds) and all(isinstance(kind, str) and kind in _TYPES for kind in kinds)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value - value == 0


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in cast("list[Any]", value))


def _is_name_lists(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_is_names(names) for names in cast("Mapping[str, Any]", value).values())


def _is_choices(value: Any) -> bool:
    return isinstance(value, list) and bool(cast("list[Any]", value))


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


_NUMBER = (_is_number, "a number")
_COUNT = (_is_count, "a whole number of 0 or more")
_STRING = (_is_string, "a string")
_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "type": (_is_type, "one of JSON Schema's seven types, or a list of them"),
    "enum": (_is_choices, "a list with at least one choice"),
    "required": (_is_names, "a list of names"),
    "dependentRequired": (_is_name_lists, "an object of lists of names"),
    "multipleOf": (_is_positive, "a number above 0"),
    "uniqueItems": (_is_bool, "true or false"),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _NUMBER),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minContains", "maxContains"), _COUNT),
    **dict.fromkeys(("minProperties", "maxProperties"), _COUNT),
    **dict.fromkeys(("pattern", "format", "title", "description"), _STRING),
}

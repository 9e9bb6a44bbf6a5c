"""What a request says: the words, numbers, times and durations that an argument may be made of, with their offsets.

A value without evidence is an invention, so the grammar admits only what stands here (and what a schema lists
itself). Number words are parsed by text2num; the typing, the units and the offsets are ours.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from text_to_num import find_numbers

from needle_mcp.types import Context, Provenance

Source: TypeAlias = Literal["request", "fact", "result"]

_NUMBER = re.compile(r"(?<![\w.])[-−]?\d(?:[\d,]*\d)?(?:\.\d+)?")
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?|[\d.]+|[^\w\s]")
_SCALE = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6, "bn": 1e9, "billion": 1e9}
_UNIT_TOO = ("K", "m", "M")
_AFTER_NUMBER = re.compile(r"\s?(?:k|thousand|million|bn|billion|%|percent|per cent|m)(?![\w])", re.IGNORECASE)
_DURATION_UNIT = re.compile(
    r"[\s-]?(seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|weeks?|s|h)(?![\w])", re.IGNORECASE
)
_SECONDS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hr": 3600,
    "hour": 3600,
    "day": 86400,
    "week": 604800,
}
_SMALL = {
    "half a dozen": 6.0,
    "a dozen": 12.0,
    "dozen": 12.0,
    "half an": 0.5,
    "half a": 0.5,
    "a quarter of an": 0.25,
    "a couple of": 2.0,
}
_SMALL_WORDS = re.compile(r"\b(" + "|".join(sorted(_SMALL, key=len, reverse=True)) + r")\b", re.IGNORECASE)
_ARTICLE_UNIT = re.compile(r"\b(an?)\s(?=(?:second|minute|hour|day|week)\b)", re.IGNORECASE)

_CLOCK = re.compile(
    r"\b(?P<h>[01]?\d|2[0-3])(?:[:.](?P<m>[0-5]\d))?\s?(?P<ap>a\.?m\b\.?|p\.?m\b\.?)"
    r"|\b(?P<h24>[01]?\d|2[0-3]):(?P<m24>[0-5]\d)\b(?!:)|\b(?P<noon>noon|midday|midnight)\b",
    re.IGNORECASE,
)
_HOUR_WORDS = ("twelve", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
_SPOKEN_CLOCK = re.compile(
    r"\b(?:(?P<rel>half past|quarter past|quarter to|half)\s)?(?P<hour>" + "|".join(_HOUR_WORDS) + r"|\d{1,2})"
    r"(?:\s(?P<minute>fifteen|thirty|forty[- ]five|twenty|ten|oh five))?(?:\s?o'?clock)?"
    r"(?:\s(?:in the )?(?P<part>morning|afternoon|evening|at night|tonight|am|pm))?\b",
    re.IGNORECASE,
)
_NO_CLOCK = re.compile(
    r"[:.,]?\d|\s?(?:%|percent\b|°|seconds?\b|minutes?\b|mins?\b|hours?\b|days?\b|weeks?\b)", re.IGNORECASE
)
_MINUTE_WORDS = {"fifteen": 15, "thirty": 30, "forty-five": 45, "forty five": 45, "twenty": 20, "ten": 10, "oh five": 5}

_QUOTED = re.compile(r"[\"“‘'`«]([^\"”’'`»]+)[\"”’'`»]")
_NEVER_FIRST = frozenset(
    "and or but to for of at in on by with from as than then please that which is are was be so".split()
)
_NEVER_LAST = frozenset(
    "and or but to for of at by with from as than then the a an my your our their his her its this these that please "
    "is are was be so if".split()
)
_PEEL_LEFT = "\"'“‘([{<«`$€£¥#*"
_PEEL_RIGHT = ".,;:!?)]}>\"'”’»`*"
_ATOMIC = re.compile(r"[\d.,:/-]+|.*[@\\].*|\w+://.*|(?:~|\.{1,2})?/.*|.*\.\w{1,5}")


_THINGS = (
    (
        re.compile(r"\be-?mails?\b(?! (?:body|text|subject))", re.IGNORECASE),
        re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    ),
    (re.compile(r"\bur[li]s?\b|\blinks?\b", re.IGNORECASE), re.compile(r"\w+://\S+|www\.\S+")),
    (
        re.compile(r"\b(?:paths?|files?|filenames?|dir|directory|folders?|source|destination)\b", re.IGNORECASE),
        re.compile(r"(?:~|\.{1,2})?/\S*|[A-Za-z]:\\\S*|(?!\w+://)\S+/\S*"),
    ),
)
"""By what a parameter's words ask for: what such a thing looks like in a request. File names without a folder look like
too many other things."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A value that the words support. For a duration the value is in seconds."""

    kind: Literal["number", "percent", "duration", "time"]
    value: float | int | str
    start: int
    end: int
    source: Source = "request"


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """All that one context supports."""

    texts: tuple[tuple[Source, str], ...]
    """What spans may be copied from: the request, then earlier results."""
    found: tuple[Found, ...]

    def numbers(self, name: str, schema: Mapping[str, Any]) -> dict[str, Found]:
        """JSON literals that a numeric parameter may take, each with what supports it, in the order said."""
        words = _words_of(name, schema)
        whole = schema.get("type") == "integer"
        literals: dict[str, Found] = {}
        for found in self.found:
            for value in _readings(found, words):
                if (whole and value != int(value)) or not _within(value, schema):
                    continue
                literals.setdefault(_literal(value), found)
        return literals

    def readings(self, value: float, name: str, schema: Mapping[str, Any]) -> tuple[Found, ...]:
        """Everything said that a numeric parameter may take this value from."""
        words = _words_of(name, schema)
        return tuple(found for found in self.found if any(value == reading for reading in _readings(found, words)))

    def times(self) -> dict[str, Found]:
        """Clock times as HH:MM, each with what supports it."""
        return {str(found.value): found for found in self.found if found.kind == "time"}

    def things(self, name: str, schema: Mapping[str, Any]) -> tuple[str, ...]:
        """Paths, addresses or URLs said, where a text parameter is for one of them; empty where it is for others.

        A path stands out in a sentence, so a parameter for paths is one of those said and no other words.
        """
        words = f"{_snake(name)} {schema.get('format') or ''} {schema.get('description') or ''}"
        for asked, pattern in _THINGS:
            if asked.search(words):
                found = [chunk for _, text in self.texts for chunk in chunks(text) if pattern.fullmatch(chunk)]
                return tuple(dict.fromkeys(found))
        return ()

    def trace(self, pointer: str, value: Any, name: str, schema: Mapping[str, Any]) -> Provenance:
        """Where a decoded value comes from."""
        if isinstance(value, bool) or value is None or "enum" in schema or "const" in schema:
            return Provenance(parameter=pointer, source="schema", text=json.dumps(value, ensure_ascii=False))
        if isinstance(value, int | float):
            found = self.numbers(name, schema).get(_literal(value))
            return self._of_found(pointer, found) if found else Provenance(parameter=pointer, source="model")
        text = str(value)
        for source, words in self.texts:
            start = words.find(text)
            if start >= 0:
                return Provenance(parameter=pointer, source=source, start=start, end=start + len(text), text=text)
        found = self.times().get(text)
        return self._of_found(pointer, found) if found else Provenance(parameter=pointer, source="model", text=text)

    def _of_found(self, pointer: str, found: Found) -> Provenance:
        words = next(text for source, text in self.texts if source == found.source)
        text = words[found.start : found.end]
        return Provenance(
            parameter=pointer,
            source=found.source,
            start=found.start,
            end=found.end,
            text=text,
            normalised=text != str(found.value),
        )


def gather(context: Context) -> Evidence:
    """The evidence of a context: its request, and the results of its earlier steps."""
    results = [step.observation.content for step in context.steps]
    texts: list[tuple[Source, str]] = [("request", context.request.text)]
    if results:
        texts.append(("result", "\n".join(results)))
    found = [item for source, text in texts for item in find(text, source)]
    return Evidence(texts=tuple(texts), found=tuple(found))


def find(text: str, source: Source = "request") -> Iterator[Found]:
    """Typed values in a text, by kind."""
    taken: list[tuple[int, int]] = []
    for found in _clock_times(text, source):
        taken.append((found.start, found.end))
        yield found
    digits = list(_digit_numbers(text, source))
    spelled = (item for item in _word_numbers(text, source) if not any(d.start <= item.start < d.end for d in digits))
    numbers = [*digits, *spelled]
    for found in sorted(numbers, key=lambda item: item.start):
        if found.kind != "number" or not any(a <= found.start < b and _is_digits(text[a:b]) for a, b in taken):
            yield found
        unit = _DURATION_UNIT.match(text, found.end)
        if unit and found.kind == "number":
            seconds = float(found.value) * _SECONDS[_singular(unit[1].lower())]
            yield Found(kind="duration", value=seconds, start=found.start, end=unit.end(), source=source)


def chunks(text: str) -> list[str]:
    """The text cut where a span may begin or end; joined they are the text again.

    Words, spaces and punctuation stand apart; numbers, times, addresses, paths and file names stay whole.
    """
    parts: list[str] = []
    for run in re.split(r"(\s+)", text):
        if not run or run.isspace():
            parts += [run] if run else []
            continue
        core = run.lstrip(_PEEL_LEFT)
        parts += run[: len(run) - len(core)]
        stem = core.rstrip(_PEEL_RIGHT)
        parts += _split_core(stem)
        parts += core[len(stem) :]
    return parts


def _split_core(core: str) -> list[str]:
    possessive = re.fullmatch(r"(.+)(['’]s)", core)
    if possessive:
        return [*_split_core(possessive[1]), possessive[2]]
    if not core or _ATOMIC.fullmatch(core):
        return [core] if core else []
    return [piece for piece in re.split(r"([-/,:–—])", core) if piece]


def _snake(name: str) -> str:
    """The words of a parameter's name, apart."""
    return re.sub(r"[_.-]+|(?<=[a-z0-9])(?=[A-Z])", " ", name)


def _words_of(name: str, schema: Mapping[str, Any]) -> str:
    return f"{name} {schema.get('description') or ''}".lower().replace("_", " ")


def _readings(found: Found, words: str) -> Iterator[float]:
    """The numbers that a found value may stand for, given the words of a parameter."""
    if found.kind == "time":
        hour, minute = (int(part) for part in str(found.value).split(":"))
        if re.search(r"\bhours?\b", words):
            yield hour
        if re.search(r"\bminutes?\b", words):
            yield minute
        return
    value = float(found.value)
    if found.kind == "duration":
        for unit, seconds in (("second", 1), ("minute", 60), ("hour", 3600), ("day", 86400), ("week", 604800)):
            if re.search(rf"\b{unit}s?\b", words):
                yield value / seconds
        if re.search(r"\b(ms|milliseconds?)\b", words):
            yield value * 1000
        return
    yield value
    if found.kind == "percent":
        yield round(value / 100, 12)


def _within(value: float, schema: Mapping[str, Any]) -> bool:
    low, high = schema.get("minimum"), schema.get("maximum")
    return not ((isinstance(low, int | float) and value < low) or (isinstance(high, int | float) and value > high))


def _literal(value: float) -> str:
    """A number as JSON: whole numbers without a point."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _digit_numbers(text: str, source: Source) -> Iterator[Found]:
    for match in _NUMBER.finditer(text):
        value = float(match[0].replace(",", "").replace("−", "-"))
        end = match.end()
        kind: Literal["number", "percent"] = "number"
        mark = _AFTER_NUMBER.match(text, end)
        word = mark[0].strip() if mark else ""
        if mark and word.lower() not in _SCALE:
            kind, end = "percent", mark.end()
        elif mark and (len(word) > 1 or not mark[0].startswith(" ")):
            if word in _UNIT_TOO:
                # 5m may be metres or millions, 300K kelvin or thousands: both readings stand.
                yield Found(kind="number", value=value, start=match.start(), end=end, source=source)
            value, end = value * _SCALE[word.lower()], mark.end()
        yield Found(kind=kind, value=value, start=match.start(), end=end, source=source)


def _word_numbers(text: str, source: Source) -> Iterator[Found]:
    for match in _SMALL_WORDS.finditer(text):
        yield Found(kind="number", value=_SMALL[match[0].lower()], start=match.start(), end=match.end(), source=source)
    for match in _ARTICLE_UNIT.finditer(text):
        yield Found(kind="number", value=1.0, start=match.start(), end=match.end() - 1, source=source)
    words = [_Word(match) for match in _WORD.finditer(text)]
    for number in find_numbers(words, "en", 0.0):
        start, end = words[number.start].start, words[number.end - 1].end
        if not text[start].isdigit():
            yield Found(kind="number", value=number.value, start=start, end=end, source=source)


class _Word:
    """A token as text2num wants it, with its offsets."""

    def __init__(self, match: re.Match[str]) -> None:
        self.start, self.end = match.span()
        self._text = match[0].lower()

    def text(self) -> str:
        return self._text

    def nt_separated(self, previous: "_Word") -> bool:
        return False

    def not_a_number_part(self) -> bool:
        return False


def _clock_times(text: str, source: Source) -> Iterator[Found]:
    seen: list[tuple[int, int]] = []
    for match in _CLOCK.finditer(text):
        if match["noon"]:
            hour, minute = (0 if match["noon"].lower() == "midnight" else 12), 0
        elif match["h24"]:
            hour, minute = int(match["h24"]), int(match["m24"])
        else:
            hour, minute = (
                int(match["h"]) % 12 + (12 if match["ap"].lower().startswith("p") else 0),
                int(match["m"] or 0),
            )
        seen.append(match.span())
        yield Found(kind="time", value=f"{hour:02}:{minute:02}", start=match.start(), end=match.end(), source=source)
    for match in _SPOKEN_CLOCK.finditer(text):
        if not any(a < match.end() and match.start() < b for a, b in seen):
            yield from _spoken(match, source)


def _spoken(match: re.Match[str], source: Source) -> Iterator[Found]:
    word = match["hour"].lower()
    hour = int(word) if word.isdigit() else _HOUR_WORDS.index(word) or 12
    said = match["rel"] or match["part"] or match["minute"] or "clock" in match[0].lower()
    if _NO_CLOCK.match(match.string, match.end()):
        return
    if hour > 12 or not (
        said or re.search(r"\b(?:at|by|for|until|till)\s$", match.string[: match.start()], re.IGNORECASE)
    ):
        return
    total = hour * 60 + _MINUTE_WORDS.get((match["minute"] or "").lower(), 0)
    total += {"half past": 30, "half": 30, "quarter past": 15, "quarter to": -15}.get((match["rel"] or "").lower(), 0)
    part = (match["part"] or "").lower()
    evening = part in ("afternoon", "evening", "at night", "tonight", "pm") and total < 12 * 60
    morning = part in ("morning", "am") and total >= 12 * 60
    for shift in (720,) if evening else (-720,) if morning else (0,) if part else (0, 720):
        # Without a part of the day both halves are possible; the words around decide, so the model does.
        hour, minute = divmod((total + shift) % 1440, 60)
        yield Found(kind="time", value=f"{hour:02}:{minute:02}", start=match.start(), end=match.end(), source=source)


def _is_digits(text: str) -> bool:
    return ":" in text or "." in text


def _singular(unit: str) -> str:
    return unit if unit in _SECONDS else unit.removesuffix("s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Spans:
    """What strings may be copied from one text: any run of `chunks` that begins with one of `first` and ends with one
    of `last`."""

    chunks: tuple[str, ...]
    first: frozenset[str]
    last: frozenset[str]


def spans(source: Source, text: str, *, trimmed: bool = True) -> Spans:
    """The spans of a text. Trimmed, none in what people say begins or ends with a word that only binds it to the
    rest."""
    parts = tuple(chunks(text))
    words = [part for part in parts if not part.isspace()]
    if source != "request" or not trimmed:
        return Spans(chunks=parts, first=frozenset(words), last=frozenset(words))
    first = {word for word in words if _begins(word)}
    last = {word for word in words if _ends(word)}
    for quoted in _QUOTED.finditer(text):
        inner = [part for part in chunks(quoted[1]) if not part.isspace()]
        first.update(inner[:1])
        last.update(inner[-1:])
    return Spans(chunks=parts, first=frozenset(first), last=frozenset(last))


def _begins(word: str) -> bool:
    return (word[0].isalnum() or word[0] in "$€£¥#@~./+-<(") and word.lower() not in _NEVER_FIRST


def _ends(word: str) -> bool:
    return (word[-1].isalnum() or word[-1] in "%$€£)!?/+*>°") and word.lower() not in _NEVER_LAST

"""Parses JSON exactly as it is written, or raises an error that says what could not be kept."""
import json, math
from decimal import Decimal


def loads(text):
    """Returns the object that `text` (str or bytes) contains. Raises ValueError, RecursionError."""
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")  # json.loads would guess the encoding
    hooks = dict(parse_int=_int, parse_float=_float, parse_constant=_constant, object_pairs_hook=_object)
    record = json.loads(text, **hooks)
    if not isinstance(record, dict):
        raise ValueError("record is not a JSON object")
    return record


def elements(text):
    """Returns the text of each element of the array that `text` contains."""
    if not isinstance(json.loads(text), list):
        raise ValueError("not a JSON array")
    decoder, found, at = json.JSONDecoder(), [], text.index("[") + 1
    while text[(at := _past(text, at, " \t\r\n,"))] != "]":
        _, end = decoder.raw_decode(text, at)
        found.append(text[at:end])
        at = end
    return found


def _past(text, at, skipped):
    while text[at] in skipped:
        at += 1
    return at


def _int(text):
    return -0.0 if text == "-0" else int(text)  # an integer zero has no sign


def _float(text):
    """Returns the float, which must be the same number again if written with as many digits."""
    value, written = float(text), Decimal(text)
    digits = len(written.as_tuple().digits)
    if math.isinf(value) or written not in (Decimal(f"{value:.{digits - 1}e}"), Decimal(repr(value))):
        raise ValueError(f"number {text} is not exact")
    return value


def _constant(text):
    raise ValueError(f"{text} is not JSON")


def _object(pairs):
    if len(record := dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice")
    return record

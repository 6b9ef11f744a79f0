"""Reads instruction data: rows of JSON Lines or Parquet files, and the tests that a row carries.

`examples` reads the files in a stage, `read_tests` turns a field into data. Nothing is run here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.sources.base import content_digest
from codellm_dag.corpora.sources.digests import file_digests
from codellm_dag.problems.chat_files import ChatExample
from codellm_dag.problems.instruction_files import instruction_files
from codellm_dag.problems.schema import Call, Test
from codellm_dag.recipes.sft_sources import InstructionFiles
from codellm_dag.sandbox import InvalidValueError, convert_asserts, from_literal

_DEFINED = re.compile(r"^(?:async[ \t]+)?def[ \t]+(\w+)|^(\w+)[ \t]*=", re.MULTILINE)


def examples(
    recipe: InstructionFiles, stage: str, more: Sequence[str] = (), language: str = "python"
) -> Iterator[tuple[ChatExample, Mapping[str, Any]]]:
    """Request and answer of every row, and the row, which has the fields `more` too; ids begin with `stage`.

    Raises CorpusError as `rows`, and for a row without a field or with one that is no text.
    """
    wanted = [recipe.instruction_field, recipe.answer_field, *more]
    wanted += [recipe.licence_field] if recipe.licence_field else []
    for place, row in rows(recipe):
        missing = [name for name in wanted if name not in row]
        if missing:
            raise CorpusError(f"{place}: no field {missing[0]!r}; there: {', '.join(sorted(row))}")
        example = ChatExample(
            f"{stage}/{recipe.name}/{place}",
            text_of(row, recipe.instruction_field, place),
            text_of(row, recipe.answer_field, place),
            recipe.name,
            place,
            text_of(row, recipe.licence_field, place) if recipe.licence_field else recipe.licence,
            language=language,
        )
        yield example, row


def text_of(row: Mapping[str, Any], name: str, place: str) -> str:
    """The field `name` of a row, "" for null. Raises CorpusError that names `place` for what is no text."""
    value = row[name]
    if not isinstance(value, str | None):
        raise CorpusError(f"{place}: the field {name!r} holds a {type(value).__name__}; allowed: text")
    return value or ""


def rows(recipe: InstructionFiles) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Place (``file:row``, counted from 1) and fields of every row, files in order of name.

    Memory: 256 rows. Raises CorpusError that names file and row for a line that is not a JSON object, and
    when the files are not those that the recipe was resolved for.
    """
    root, names = instruction_files(recipe)
    found = content_digest(file_digests(root, names))
    if found != recipe.content_digest:
        raise CorpusError(
            f"{recipe.path}: its files are not those of the recipe; they have changed: run again"
        )
    for name in names:
        read = _parquet if name.endswith(".parquet") else _json_lines
        for number, row in enumerate(read(root / name), 1):
            yield f"{name}:{number}", row


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(batch_size=256):
        yield from batch.to_pylist()


def _json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise CorpusError(f"{path}:{number}: not a JSON object ({error})") from error
            if not isinstance(row, dict):
                raise CorpusError(f"{path}:{number}: not a JSON object but a {type(row).__name__}")
            yield row


@dataclass(frozen=True)
class RowTests:
    """A row's tests: calls, pairs of standard input and output, and assertions that could not be turned into
    data. All empty: there is none."""

    entry_point: str = ""
    tests: tuple[Test, ...] = ()
    streams: tuple[tuple[str, str], ...] = ()
    leftover: str = ""


class InvalidTestsError(ValueError):
    """A row's tests are of no form that is known; the message says which are."""


def read_tests(field: Any, entry_point: str, answer: str) -> RowTests:
    """The tests in a row's field; `entry_point` may be "", then it is found in the code `answer`.

    Forms: assertions as text or a list of texts; a list of {stdin, stdout} (or {input, output}); a list of
    {call, expected} as in problems.jsonl, or {entry_point, tests} with such a list; any of them as JSON text.
    Raises InvalidTestsError for anything else.
    """
    field = _unpacked(field)
    if isinstance(field, Mapping):
        entry_point = str(field.get("entry_point", "")) or entry_point
        field = field.get("tests", [])
    if not field:
        return RowTests(entry_point)
    if isinstance(field, str):
        return _from_asserts(field, entry_point, answer)
    if not isinstance(field, Sequence):
        raise InvalidTestsError(f"a {type(field).__name__}; allowed: text, a list, or an object with tests")
    if all(isinstance(part, str) for part in field):
        return _from_asserts("\n".join(field), entry_point, answer)
    if all(isinstance(part, Mapping) for part in field):
        return _from_objects(field, entry_point, answer)
    raise InvalidTestsError("a list of mixed things; allowed: texts, or objects of one form")


def _unpacked(field: Any) -> Any:
    """JSON text as what it says; any other text as it is."""
    if isinstance(field, str) and field.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(field)
        except (ValueError, RecursionError):
            return field
    return field


def _from_objects(parts: Sequence[Mapping[str, Any]], entry_point: str, answer: str) -> RowTests:
    for given, wanted in (("stdin", "stdout"), ("input", "output")):
        if all(isinstance(part.get(given), str) and isinstance(part.get(wanted), str) for part in parts):
            return RowTests(entry_point, streams=tuple((part[given], part[wanted]) for part in parts))
    try:
        tests = tuple(Test.model_validate(part) for part in parts)
        for test in tests:
            for text in (*test.call.args, *test.call.kwargs.values()):
                from_literal(text)
            if test.comparison != "holds":
                from_literal(test.expected)
    except (ValidationError, InvalidValueError) as error:
        raise InvalidTestsError(f"not {{stdin, stdout}} nor {{call, expected}} ({error})") from error
    return RowTests(entry_point or _only_definition(answer), tests)


def _from_asserts(source: str, entry_point: str, answer: str) -> RowTests:
    entry_point = entry_point or _first_called(source, answer)
    if not entry_point:
        return RowTests("", leftover=source)
    try:
        conversion = convert_asserts(source, entry_point)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidTestsError(f"assertions that Python cannot parse ({error})") from error
    return RowTests(
        entry_point,
        tuple(
            Test(
                call=Call(args=test.call.args, kwargs=dict(test.call.kwargs)),
                expected=test.expected,
                comparison=test.comparison,
                tolerance=test.tolerance,
            )
            for test in conversion.tests
        ),
        leftover=conversion.leftover,
    )


def _definitions(code: str) -> list[str]:
    return [first or second for first, second in _DEFINED.findall(code)]


def _only_definition(code: str) -> str:
    """The last function that the code defines at its left edge, as scripts put their answer last."""
    return next(reversed(_definitions(code)), "")


def _first_called(source: str, code: str) -> str:
    """The name, defined by the code, that the test source calls first."""
    defined = set(_definitions(code))
    return next((name for name in re.findall(r"(\w+)\s*\(", source) if name in defined), "")

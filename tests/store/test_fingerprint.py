"""Canonical JSON and the digests on it, against texts and hashes worked out by hand."""

from __future__ import annotations

import enum
import hashlib
import subprocess
import sys

import numpy as np
import pytest

from codellm_dag.store import CanonicalError, canonical_json, content_digest, digest


class Colour(enum.StrEnum):
    RED = "red"


def test_golden_payload() -> None:
    payload = {"b": [1, 1.0, -0.0, 1e22, 0.1, True, None], "a": {"ü": 'x"\n', "A": ()}}
    expected = '{"a":{"A":[],"ü":"x\\"\\n"},"b":[1,1.0,-0.0,1e+22,0.1,true,null]}'.encode()
    assert canonical_json(payload) == expected
    assert digest(payload) == hashlib.sha256(expected).hexdigest()


def test_golden_content_digest() -> None:
    a, b = hashlib.sha256(b"a").hexdigest(), hashlib.sha256(b"b").hexdigest()
    expected = hashlib.sha256(f'[["dir/b.txt","{b}"],["x.txt","{a}"]]'.encode()).hexdigest()
    assert content_digest({"x.txt": a, "dir/b.txt": b}) == expected
    assert content_digest([("dir/b.txt", b), ("x.txt", a)]) == expected


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, 1.0),
        (True, 1),
        (0.0, -0.0),
        (1, "1"),
        (None, "null"),
        ("\u00e9", "e\u0301"),
        ([1, 2], [2, 1]),
        ([[1], 2], [[1, 2]]),
        ({}, []),
        (10**30, 1e30),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
    ],
)
def test_different_values_have_different_digests(left: object, right: object) -> None:
    assert digest(left) != digest(right)


def test_order_of_keys_does_not_count() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"rate": float("nan")}, "rate holds the value nan"),
        ({"rate": [0.5, float("inf")]}, r"rate\[1\] holds the value inf"),
        ({"names": {"a", "b"}}, "names holds a value of type set"),
        ({"n": np.float64(0.5)}, "n holds a value of type numpy.float64"),
        ({"n": np.int64(5)}, "n holds a value of type numpy.int64"),
        ({"deep": [{"colour": Colour.RED}]}, r"deep\[0\].colour holds a value of type .*Colour"),
        ({"path": b"bytes"}, "path holds a value of type bytes"),
        ({1: "a"}, "a key of type int"),
        ({"a": {2.0: 1}}, "a holds a key of type float"),
        ("\ud800", "the value holds the text"),
        ({"\ud800": 1}, "key holds the text"),
        (object(), "the value holds a value of type object"),
    ],
)
def test_what_has_no_canonical_form_is_refused(value: object, message: str) -> None:
    with pytest.raises(CanonicalError, match=message):
        digest(value)


def test_the_same_in_another_process_with_another_hash_seed() -> None:
    code = "from codellm_dag.store import digest; print(digest(dict(zip('abc', [1, 2.5, 'ü']))))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={
                "PYTHONHASHSEED": seed,
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": ":".join(filter(None, sys.path)),
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert seen == {hashlib.sha256('{"a":1,"b":2.5,"c":"ü"}'.encode()).hexdigest()}

"""Two assets for `test_resume`: each leaves a mark when it runs; the second waits to be killed."""

import os
import time
from pathlib import Path

import dagster as dg

MARKS = Path(os.environ["TOY_MARKS"])


def _mark(name: str) -> None:
    with (MARKS / name).open("a") as stream:
        stream.write("x")


@dg.asset
def first() -> None:
    """Done before the kill."""
    _mark("first")


@dg.asset(deps=[first], pool="gpu")
def second() -> None:
    """At work when the kill comes."""
    _mark("second")
    while not (MARKS / "go").exists():
        time.sleep(0.1)


defs = dg.Definitions([first, second], jobs=[dg.define_asset_job("toys")], executor=dg.in_process_executor)

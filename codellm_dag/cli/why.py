"""``codellm-dag why``: why an asset was computed or reused, and what would happen now."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from codellm_dag.cli import format as fmt
from codellm_dag.cli.recipes import LastRecipeOption, SetOption, last_choice, recipes_now
from codellm_dag.cli.session import DEFAULT_STORE, DebugOption, JsonOption, Session, StoreOption, session
from codellm_dag.lineage.graph import label
from codellm_dag.lineage.names import find_ref
from codellm_dag.lineage.why import Explanation
from codellm_dag.lineage.why import why as explain
from codellm_dag.store import Decision


def why(
    asset: Annotated[str, typer.Argument(metavar="ASSET", help=r"asset, or asset\[partition].")],
    recipe: LastRecipeOption = "",
    changes: SetOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    r"""Why an asset was computed or reused, and what would happen now.

    Field by field. "Now" is a demo with the recipe and changes of the last one, or those given here.

    [bold]Examples[/]

    codellm-dag why pretrained_checkpoint

    codellm-dag why 'clean_corpus\[python]' --set clean_corpus.quality.max_line_length=200
    """
    with session(store, as_json=as_json, debug=debug) as here:
        ref = find_ref(here.store, asset)
        choice = last_choice(here.store, recipe, changes)
        found = explain(here.store, ref, recipes_now(choice) if choice else None)
        of = choice.text if choice else "the recipe of the last time"
        if as_json:
            here.json(_json(here, found, of))
        else:
            _print(here, found, of)


def _json(here: Session, found: Explanation, of: str) -> dict[str, Any]:
    return {
        "store": here.store.url,
        "asset": found.label,
        "fingerprint": found.artifact.fingerprint,
        "content_digest": found.artifact.content_digest,
        "computed_at": found.computed_at.isoformat(),
        "requests": found.requests,
        "last": found.last.model_dump(mode="json") if found.last else None,
        "recipe": of,
        "now": found.now.model_dump(mode="json"),
        "now_open": found.open,
        "upstream": [decision.model_dump(mode="json") for decision in found.upstream],
    }


def _print(here: Session, found: Explanation, of: str) -> None:
    title = f"  {fmt.digest(found.artifact.fingerprint)} → {fmt.digest(found.artifact.content_digest)}"
    here.out.print(Text.assemble((found.label, "bold"), (title, "dim")))
    computed = f"{found.computed_at.astimezone():%Y-%m-%d %H:%M:%S}"
    here.out.print(Text(f"computed {computed}, asked for {found.requests} times", style="dim"))
    if found.last:
        at = f"{found.last.at.astimezone():%Y-%m-%d %H:%M:%S}"
        here.out.print(
            Text.assemble("\nThe last time ", (f"({at}) ", "dim"), _action(found.last.action), ":")
        )
        _reasons(here, found.last)
    here.out.print(Text.assemble("\nNow ", (f"(with {of}) ", "dim"), *_verdict(found)))
    _reasons(here, found.now)
    changed = [decision for decision in found.upstream if decision.action == "computed"]
    if changed:
        here.out.print("\nOf what it is made from, this would be computed:")
    for decision in changed:
        here.out.print(Text.assemble("  ", (label(decision.asset, decision.partition), "bold")))
        _reasons(here, decision, indent="    ")


def _verdict(found: Explanation) -> list[Any]:
    if found.open:
        return ["it ", ("depends", "yellow"), ": reused if its inputs come out as they were, else computed:"]
    return ["it would be ", _action(found.now.action), ":"]


def _action(action: str) -> tuple[str, str]:
    return (action, "green" if action == "reused" else "yellow")


def _reasons(here: Session, decision: Decision, indent: str = "  ") -> None:
    for reason in decision.reasons:
        here.out.print(Text(f"{indent}{reason}"), soft_wrap=True)

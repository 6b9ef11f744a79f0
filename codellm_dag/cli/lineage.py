"""``codellm-dag lineage``: the tree from a number down to the source files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from codellm_dag.cli import format as fmt
from codellm_dag.cli.recipes import changed_fields, flat_fields
from codellm_dag.cli.scores import cost_json, score_json
from codellm_dag.cli.session import (
    DEFAULT_STORE,
    DebugOption,
    JsonOption,
    Session,
    StoreOption,
    session,
)
from codellm_dag.lineage.cost import device_hours, device_seconds
from codellm_dag.lineage.errors import LineageError
from codellm_dag.lineage.graph import Node, nodes
from codellm_dag.lineage.names import place
from codellm_dag.lineage.scores import Score, find_scores, list_scores, score_root
from codellm_dag.lineage.sources import SourceFile, list_files, raw_corpora, summarise
from codellm_dag.store import Environment, Manifest, Store

_EXAMPLES = 3
"""Files of a corpus that the tree names; --files names all."""

ScoreArgument = Annotated[str, typer.Argument(metavar="SCORE", help="Score id, e.g. 3fa1c2d4/pass@1.")]


def lineage(
    score: ScoreArgument,
    files: Annotated[
        bool, typer.Option("--files", help="List every source file, and what became of it.")
    ] = False,
    grep: Annotated[
        str, typer.Option(metavar="REGEX", help="List only source files whose path matches; implies --files.")
    ] = "",
    full: Annotated[
        bool, typer.Option("--full", help="Every recipe field, package and machine of every artifact.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """The tree from a number down to the source files.

    With every recipe on the way; what a recipe leaves at its defaults is shown by --full.

    [bold]Examples[/]

    codellm-dag lineage 3fa1c2d4/pass@1

    codellm-dag lineage 3fa1c2d4 --grep heapq
    """
    with session(store, as_json=as_json, debug=debug) as here:
        chosen = find_scores(list_scores(here.store), score, place(here.store))
        root = score_root(here.store, chosen[0])
        listed = list_files(here.store, root, grep) if files or grep else None
        if as_json:
            here.json(_json(here.store, chosen, root, listed))
        elif listed is not None:
            _print_files(here, chosen, listed)
        else:
            _print_tree(here, chosen, root, full)
        if listed == []:
            if not as_json:
                here.err.print(
                    f"no source file's path matches {grep!r}" if grep else "there are no source files"
                )
            here.no()


def _json(store: Store, chosen: list[Score], root: Node, listed: list[SourceFile] | None) -> dict[str, Any]:
    answer = {
        "store": store.url,
        "scores": [score_json(score, None) for score in chosen],
        "device_hours": cost_json(device_hours(root)),
        "root": root.artifact.fingerprint,
        "artifacts": [_node_json(store, node) for node in nodes(root)],
    }
    if listed is not None:
        answer["files"] = [asdict(file) for file in listed]
    return answer


def _node_json(store: Store, node: Node) -> dict[str, Any]:
    manifest = node.manifest
    values: dict[str, Any] = {
        **node.artifact.model_dump(mode="json"),
        "asset": node.artifact.name,
        "inputs": {slot: below.artifact.fingerprint for slot, below in node.inputs.items()},
        "deleted": manifest is None,
    }
    del values["name"]
    if manifest is not None:
        identity = manifest.identity
        values |= {
            "recipe": identity.get("recipe", {}),
            "code_digest": identity.get("code", ""),
            "code": manifest.code,
            "packages": identity.get("packages", {}),
            "external": identity.get("external", {}),
            "environment": manifest.environment.model_dump(mode="json"),
            "metrics": manifest.metrics,
            "outputs": [output.model_dump(mode="json") for output in manifest.outputs],
            "created": manifest.created.isoformat(),
            "device_seconds": device_seconds(manifest),
        }
    if node.artifact.stage == "raw_corpus" and manifest is not None:
        values["sources"] = [asdict(summary) for summary in summarise(store, node)]
    return values


def headline(score: Score) -> Text:
    """A score in one line: ``pass@1 on microbench of sft  0.123 [0.101, 0.151]  n = 200``."""
    text = Text.assemble(
        (fmt.number(score.value), "bold"),
        f" {fmt.interval(score)}  ",
        (f"{score.metric} on {score.benchmark}", "bold"),
        f" of {score.model}",
        (f"  n = {score.n}" if score.n else "", "dim"),
    )
    return Text.assemble((score.id, "cyan"), "  ", text)


def _print_tree(here: Session, chosen: list[Score], root: Node, full: bool) -> None:
    for score in chosen:
        here.out.print(headline(score))
    cost = device_hours(root)
    here.out.print(
        Text(
            f"device-hours: model {fmt.hours(cost.model)}, evaluation {fmt.hours(cost.evaluation)}, "
            f"data {fmt.hours(cost.data)}" + (" (some manifests are gone)" if cost.incomplete else ""),
            style="dim",
        )
    )
    made = [*environment_words(root), _versions(shared_packages(root))]
    here.out.print(Text(f"made with: {' · '.join(word for word in made if word)}", style="dim"))
    here.out.print()
    here.out.print(_Drawing(here.store, root, full).tree(root))
    here.out.print()
    corpora = raw_corpora(root)
    if corpora:
        here.out.print(
            f"Every source file:  {here.command(f'lineage {chosen[0].report_id} --files')}", soft_wrap=True
        )


class _Drawing:
    """Draws each node once; a node that comes again is named and points up."""

    def __init__(self, store: Store, root: Node, full: bool) -> None:
        self._store = store
        self._usual = environment_words(root)
        self._packages = shared_packages(root)
        self._full = full
        self._drawn: set[str] = set()

    def tree(self, root: Node) -> Tree:
        """The whole tree."""
        tree = Tree(self._title(root), guide_style="dim")
        self._fill(tree, root)
        return tree

    def _fill(self, branch: Tree, node: Node) -> None:
        self._drawn.add(node.artifact.fingerprint)
        for slot, below in node.inputs.items():
            if below.artifact.fingerprint in self._drawn:
                branch.add(Text.assemble((f"{slot}: ", "dim"), below.label, ("  (above)", "dim")))
            else:
                self._fill(branch.add(self._title(below, slot)), below)
        if node.manifest is not None and node.artifact.stage == "raw_corpus":
            self._sources(branch, node)

    def _title(self, node: Node, slot: str = "") -> Group:
        """The node's name, and indented below it what it was made with."""
        kind = f"  {node.artifact.kind} " if node.artifact.kind not in node.artifact.name else "  "
        content = f"{fmt.digest(node.artifact.fingerprint)} → {fmt.digest(node.artifact.content_digest)}"
        title = Text.assemble(
            (f"{slot}: " if slot else "", "dim"), (node.label, "bold"), (f"{kind}{content}", "dim")
        )
        if node.manifest is None:
            told = [Text("its manifest is no longer in the store", style="yellow")]
        else:
            told = [*self._recipe(node), self._made(node, node.manifest)]
        return Group(title, *(Padding(line, (0, 0, 0, 2), expand=False) for line in told))

    def _recipe(self, node: Node) -> list[Text]:
        changed, total = changed_fields(node.artifact.stage, node.recipe)
        if self._full:
            fields = flat_fields(node.recipe)
            return [
                Text.assemble((f"{name} ", "dim"), fmt.value(value, 100)) for name, value in fields.items()
            ]
        changed = {name: value for name, value in changed.items() if name != "sources"}  # listed below it
        parts = [Text.assemble((f"{name} ", "dim"), fmt.value(value, 40)) for name, value in changed.items()]
        if total > len(parts):
            rest = total - len(parts)
            parts.append(Text(f"{rest} default{'s' if rest > 1 else ''}", style="dim"))
        return [Text(" · ", style="dim").join(parts)]

    def _made(self, node: Node, manifest: Manifest) -> Text:
        own = manifest.identity.get("packages", {})
        other = {name: version for name, version in own.items() if self._full or name not in self._packages}
        parts = [f"code {fmt.digest(str(manifest.identity.get('code', '')))}", _versions(other)]
        parts.append(fmt.duration(device_seconds(manifest)))
        failed = sum(attempt.label != "ok" for attempt in manifest.cost)
        parts.append(f"{failed} failed attempts" if failed else "")
        words = environment_words(node)
        parts += [word for word in words if self._full or word not in self._usual]
        return Text(" · ".join(part for part in parts if part), style="dim")

    def _sources(self, branch: Tree, node: Node) -> None:
        """Every source, and the first files of each."""
        try:
            summaries, files = summarise(self._store, node), list_files(self._store, node)
        except LineageError as error:
            branch.add(Text(str(error), style="yellow"))
            return
        for each in summaries:
            count = f"  {each.licence}  {each.documents:,} files, {fmt.size(each.bytes)}"
            below = branch.add(Text.assemble((each.source, "green"), count))
            own = [file for file in files if (file.source, file.licence) == (each.source, each.licence)]
            for file in own[:_EXAMPLES]:
                told = f"  {fmt.size(file.bytes)}  sha256 {file.sha256[:12]}…"
                below.add(Text.assemble((file.path, "green"), (told, "dim")))
            if len(own) > _EXAMPLES:
                below.add(Text(f"… and {len(own) - _EXAMPLES:,} more", style="dim"))


def environment_words(node: Node) -> list[str]:
    """Code, Python, processor and devices that an artifact was made with, in words."""
    environment = node.manifest.environment if node.manifest else Environment()
    commit = f"commit {fmt.digest(environment.git_commit)}" if environment.git_commit else "no commit"
    dirty = " + uncommitted changes" if environment.git_dirty else ""
    devices = [device for device in environment.devices if device != "cpu"]
    used = ", ".join(devices) if devices else f"{environment.threads} threads"
    return [
        f"{commit}{dirty}",
        f"Python {environment.python}",
        environment.cpu_model or "unknown processor",
        used,
    ]


def shared_packages(root: Node) -> dict[str, str]:
    """Declared packages that have one version in the whole lineage."""
    versions: dict[str, set[str]] = {}
    for node in nodes(root):
        for name, version in (node.manifest.identity.get("packages", {}) if node.manifest else {}).items():
            versions.setdefault(name, set()).add(version)
    return {name: found.pop() for name, found in sorted(versions.items()) if len(found) == 1}


def _versions(packages: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def _print_files(here: Session, chosen: list[Score], files: list[SourceFile]) -> None:
    here.out.print(headline(chosen[0]))
    here.out.print()
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in ("language", "source", "path", "licence", "bytes", "sha256", "became"):
        table.add_column(column, justify="right" if column == "bytes" else "left", no_wrap=column == "bytes")
    for file in files:
        style = "" if file.fate in ("train", "heldout") else "dim"
        table.add_row(
            file.language,
            Text(file.source),
            Text(file.path, style="green"),
            file.licence,
            f"{file.bytes:,}",
            file.sha256[:12],
            Text(file.fate),
            style=style,
        )
    here.out.print(table)
    here.out.print(f"\n{len(files):,} files", style="dim")

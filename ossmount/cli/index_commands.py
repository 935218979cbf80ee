"""The commands below ``ossmount index``.

What may live here: as in :mod:`ossmount.cli.commands`: arguments in, one call of the application, the
answer out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ossmount.cli.command import Context
from ossmount.cli.commands import json_flag, split_paths
from ossmount.cli.output import (
    as_fields,
    cell,
    print_fields,
    print_json,
    print_json_rows,
    printable,
    replacing,
    size_text,
    time_text,
)
from ossmount.cli.progress import progress_on
from ossmount.model import Child, IndexInfo, Kind


def index_build_arguments(parser: argparse.ArgumentParser) -> None:
    """Sources and the index to write, --json."""
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="SOURCE INDEX",
        help="a source as for mount (none with --manifest or --objects); last the index file to write",
    )
    json_flag(parser)


_BUILD_USAGE = "index build [OPTIONS] SOURCE... INDEX"


def index_build(context: Context, arguments: argparse.Namespace) -> int:
    """Builds an index and shows what it says of itself."""
    settings = context.settings(arguments)
    sources, path = split_paths(arguments.paths, "index", settings, _BUILD_USAGE)
    with progress_on(form=context.log_format) as report:
        info = context.app.build_index(sources, path, settings, report)
    show_info(context, info, arguments.json)
    return 0


def index_argument(parser: argparse.ArgumentParser) -> None:
    """The index file."""
    parser.add_argument("index", metavar="INDEX", help="an index file")


def index_and_json(parser: argparse.ArgumentParser) -> None:
    """The index file, --json."""
    index_argument(parser)
    json_flag(parser)


def index_info(context: Context, arguments: argparse.Namespace) -> int:
    """Shows what an index says of itself."""
    show_info(context, context.app.index_info(arguments.index), arguments.json)
    return 0


def show_info(context: Context, info: IndexInfo, as_json: bool) -> None:
    """What an index says of itself."""
    if as_json:
        print_json(context.out, as_fields(info))
        return
    options = " ".join(f"--{name.replace('_', '-')}={value}" for name, value in info.options.items())
    labels = f"{len(info.labels):,}: {', '.join(map(printable, info.labels[:10]))}" if info.labels else "none"
    print_fields(
        context.out,
        [
            ("source", printable(info.source)),
            ("created", time_text(info.created)),
            ("files", f"{info.files:,}"),
            ("directories", f"{info.directories:,}"),
            ("bytes", f"{info.total_bytes:,} ({size_text(info.total_bytes)})"),
            ("labels", labels + (", …" if len(info.labels) > 10 else "")),
            ("options", options or "none"),
            ("generation", str(info.generation)),
            ("format", str(info.format)),
            ("checksum", info.checksum),
        ],
    )


def index_ls_arguments(parser: argparse.ArgumentParser) -> None:
    """The index, an optional directory, --long, --json."""
    index_argument(parser)
    parser.add_argument("directory", nargs="?", default="", metavar="DIRECTORY", help="path from the root")
    parser.add_argument("-l", "--long", action="store_true", help="with inode, size and time")
    json_flag(parser)


def index_ls(context: Context, arguments: argparse.Namespace) -> int:
    """Lists a directory of an index."""
    children = context.app.index_ls(arguments.index, arguments.directory)
    if arguments.json:
        print_json_rows(context.out, map(_child_fields, children))
        return 0
    for child in children:
        context.out.write((_long_line(child) if arguments.long else _child_name(child)) + "\n")
    return 0


def _child_name(child: Child) -> str:
    return printable(child.name) + ("/" if child.attributes.kind is Kind.DIRECTORY else "")


def _long_line(child: Child) -> str:
    ino, _, size, mtime_ns, _ = child.attributes
    return f"{ino:>12} {size:>15,} {time_text(mtime_ns / 1e9)} {_child_name(child)}"


def _child_fields(child: Child) -> dict[str, Any]:
    attributes = child.attributes
    return {
        "name": child.name,
        "kind": attributes.kind.name.lower(),
        "inode": attributes.ino,
        "size": attributes.size,
        "mtime_ns": attributes.mtime_ns,
    }


def index_export_arguments(parser: argparse.ArgumentParser) -> None:
    """The index, where to write."""
    index_argument(parser)
    parser.add_argument("manifest", nargs="?", default="-", metavar="FILE", help="'-': standard output")


def index_export(context: Context, arguments: argparse.Namespace) -> int:
    """Writes the manifest beside its place, then renames it; nothing is left where that fails."""
    if arguments.manifest == "-":
        context.app.index_export(arguments.index, sys.stdout.buffer)
        return 0
    with replacing(arguments.manifest) as output:
        rows = context.app.index_export(arguments.index, output)
    context.out.write(f"{Path(arguments.manifest)}: {rows:,} rows\n")
    return 0


def index_report(context: Context, arguments: argparse.Namespace) -> int:
    """Shows renames, merges and skips with a line of heads."""
    rows = (as_fields(row) for row in context.app.index_report(arguments.index))
    if arguments.json:
        print_json_rows(context.out, rows)
        return 0
    for number, row in enumerate(rows):
        if number == 0:
            context.out.write("\t".join(row) + "\n")
        context.out.write("\t".join(cell(value) for value in row.values()) + "\n")
    return 0

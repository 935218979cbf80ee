"""Commands about generations: ``index refresh``, ``index push``, ``index pull``, ``refresh``, ``verify``.

What may live here: as in :mod:`ossmount.cli.commands`: arguments in, one call of the application, the
answer out.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from ossmount.cli.command import Context
from ossmount.cli.commands import json_flag
from ossmount.cli.index_commands import index_argument, show_info
from ossmount.cli.output import as_fields, cell, print_json, printable, replacing, size_text
from ossmount.cli.progress import progress_on


def index_refresh_arguments(parser: argparse.ArgumentParser) -> None:
    """The index, --report, --json."""
    index_argument(parser)
    parser.add_argument(
        "--report", metavar="FILE", help="write what changed: a line for each path, tab-separated"
    )
    json_flag(parser)


def index_refresh(context: Context, arguments: argparse.Namespace) -> int:
    """Builds the next generation and shows what is different."""
    settings = context.settings(arguments)
    rows: list[dict[str, Any]] = []
    with _report_file(arguments.report) as write, progress_on(form=context.log_format) as report:

        def note(change: Any) -> None:
            write(change)
            if arguments.json:
                rows.append(as_fields(change))

        refreshed = context.app.refresh_index(arguments.index, settings, report, note)
    if arguments.json:
        print_json(context.out, as_fields(refreshed) | {"changes": rows})
    else:
        context.out.write(f"{printable(arguments.index)}: {describe_refresh(as_fields(refreshed))}\n")
    return 0


def index_push_arguments(parser: argparse.ArgumentParser) -> None:
    """The index, the URI, --prune, --json."""
    index_argument(parser)
    parser.add_argument("uri", metavar="URI", help="where to, like s3://bucket/train.ossidx")
    parser.add_argument(
        "--prune",
        action="store_true",
        help="remove parts older than a day that neither this index nor the one it replaces has",
    )
    json_flag(parser)


def index_push(context: Context, arguments: argparse.Namespace) -> int:
    """Publishes an index."""
    settings = context.settings(arguments)
    with progress_on(form=context.log_format) as report:
        pushed = context.app.push_index(
            arguments.index, arguments.uri, settings, report, prune=arguments.prune
        )
    if arguments.json:
        print_json(context.out, as_fields(pushed))
    else:
        removed = f", {pushed.removed} old parts removed" if arguments.prune else ""
        context.out.write(
            f"{printable(pushed.uri)}: {size_text(pushed.index_bytes)} as {size_text(pushed.stored_bytes)},"
            f" {size_text(pushed.sent_bytes)} sent{removed}\n"
        )
    return 0


def index_pull_arguments(parser: argparse.ArgumentParser) -> None:
    """The URI, the file, --json."""
    parser.add_argument("uri", metavar="URI", help="an index that was pushed")
    parser.add_argument("index", metavar="INDEX", help="the file to write")
    json_flag(parser)


def index_pull(context: Context, arguments: argparse.Namespace) -> int:
    """Fetches a published index and shows what it says of itself."""
    settings = context.settings(arguments)
    with progress_on(form=context.log_format) as report:
        info = context.app.pull_index(arguments.uri, arguments.index, settings, report)
    show_info(context, info, arguments.json)
    return 0


def refresh_arguments(parser: argparse.ArgumentParser) -> None:
    """The mountpoint, --json."""
    parser.add_argument("mountpoint", metavar="MOUNTPOINT")
    json_flag(parser)


def refresh(context: Context, arguments: argparse.Namespace) -> int:
    """Has a mount go over to the next generation."""
    fields = dict(context.app.refresh_mount(arguments.mountpoint))
    if arguments.json:
        print_json(context.out, fields)
    else:
        context.out.write(f"{printable(arguments.mountpoint)}: {describe_refresh(fields)}\n")
    return 0


def describe_refresh(fields: dict[str, Any]) -> str:
    """One line about a refresh."""
    if fields["generation"] == fields["previous"]:
        return f"generation {fields['generation']} is up to date ({fields['files']:,} files)"
    return (
        f"generation {fields['previous']} -> {fields['generation']}: {fields['added']:,} added,"
        f" {fields['changed']:,} changed, {fields['gone']:,} gone, {fields['files']:,} files"
    )


def verify_arguments(parser: argparse.ArgumentParser) -> None:
    """The index or mountpoint, --contents, --json."""
    parser.add_argument("target", metavar="INDEX|MOUNTPOINT", help="an index file, or a live mount")
    parser.add_argument(
        "--contents", action="store_true", help="read every object too, and compare its MD5 with its ETag"
    )
    json_flag(parser)


def verify(context: Context, arguments: argparse.Namespace) -> int:
    """Shows differences between an index and its source; status 1 where there are any."""
    settings = context.settings(arguments)
    rows: list[dict[str, Any]] = []

    def note(difference: Any) -> None:
        if arguments.json:
            rows.append(as_fields(difference))
        else:
            context.out.write(_row_text(difference))

    with progress_on(form=context.log_format) as report:
        found = context.app.verify(arguments.target, settings, report, note, contents=arguments.contents)
    if arguments.json:
        print_json(context.out, as_fields(found) | {"found": rows})
    else:
        unproved = f" ({found.unproved:,} ETags are no MD5)" if found.unproved else ""
        read = f", {found.contents:,} contents read{unproved}" if found.contents or found.unproved else ""
        context.out.write(f"{found.files:,} files{read}: {found.differences:,} differences\n")
    return 1 if found.differences else 0


@contextlib.contextmanager
def _report_file(name: str | None) -> Iterator[Callable[[Any], None]]:
    """Writes rows to what replaces ``name`` when all went well."""
    if name is None:
        yield lambda _: None
        return
    with replacing(name) as output:
        output.write(b"what\tpath\n")

        def write(row: Any) -> None:
            output.write(_row_text(row).encode())

        yield write


def _row_text(row: Any) -> str:
    return "\t".join(cell(value) for value in as_fields(row).values()) + "\n"

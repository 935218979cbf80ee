"""The commands themselves: each reads its arguments, calls one function of the application, shows the answer.

What may live here: nothing that would be missing if ``app`` were called from Python. Who may touch it:
whoever adds a command, which then needs its place in :mod:`ossmount.cli.catalogue`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from ossmount.cli.application import FindingLike
from ossmount.cli.command import Context
from ossmount.cli.options import add_mount_options
from ossmount.cli.output import (
    as_fields,
    print_fields,
    print_json,
    print_table,
    printable,
    size_text,
    time_text,
)
from ossmount.cli.progress import progress_on
from ossmount.config import Settings, parse_size
from ossmount.errors import SettingsError

NO_SOURCE = "none"
"""What fstab's first column says where the source is given by ``manifest=`` or ``objects=``."""


def split_paths(paths: list[str], what: str, settings: Settings, usage: str) -> tuple[list[str], str]:
    """(sources, last path). Raises SettingsError where there is no source, or two kinds of it."""
    *sources, last = paths
    listed = settings.source.manifest or settings.source.objects
    if sources == [NO_SOURCE] and listed:
        sources = []
    if settings.source.manifest and settings.source.objects:
        raise SettingsError("--manifest and --objects are two sources", "give one of them")
    if listed and sources:
        raise SettingsError(
            f"{sources[0]!r} and {'--manifest' if settings.source.manifest else '--objects'} are two sources",
            f"give one of them; a manifest's relative paths belong to --base-uri, {what} comes alone",
        )
    if not listed and not sources and not settings.index.index:
        raise SettingsError(f"no source is given beside {what} {last!r}", f"usage: ossmount {usage}")
    return sources, last


def mount_arguments(parser: argparse.ArgumentParser) -> None:
    """Sources and mountpoint, -f, -o."""
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="SOURCE MOUNTPOINT",
        help="s3://bucket/prefix/, oss://bucket/prefix/, file:///directory/, or URIs of single objects;"
        " none with --manifest or --objects; last an empty directory",
    )
    parser.add_argument("-f", "--foreground", action="store_true", help="stay, and log to the terminal")
    parser.add_argument("--sloppy", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--fake", action="store_true", help=argparse.SUPPRESS)
    add_mount_options(parser)


_MOUNT_USAGE = "mount [OPTIONS] SOURCE... MOUNTPOINT"


def mount(context: Context, arguments: argparse.Namespace) -> int:
    """Mounts; the status is the application's."""
    settings = context.settings(arguments)
    sources, mountpoint = split_paths(arguments.paths, "mountpoint", settings, _MOUNT_USAGE)
    if arguments.fake:
        return 0
    with progress_on(form=context.log_format) as report:
        return context.app.mount(
            sources, mountpoint, settings, foreground=arguments.foreground, report=report
        )


def umount_arguments(parser: argparse.ArgumentParser) -> None:
    """The mountpoint, --lazy."""
    parser.add_argument("mountpoint", metavar="MOUNTPOINT")
    parser.add_argument("-z", "--lazy", action="store_true", help="detach it even where it is in use or dead")


def umount(context: Context, arguments: argparse.Namespace) -> int:
    """Ends a mount."""
    context.app.umount(arguments.mountpoint, lazy=arguments.lazy)
    return 0


def json_flag(parser: argparse.ArgumentParser) -> None:
    """``--json``, for commands whose answer a program may read."""
    parser.add_argument("--json", action="store_true", help="answer as JSON")


def list_mounts(context: Context, arguments: argparse.Namespace) -> int:
    """Shows live mounts."""
    mounts = [as_fields(mount) for mount in context.app.list_mounts()]
    if arguments.json:
        print_json(context.out, mounts)
    elif mounts:
        rows = ([printable(m["mountpoint"]), printable(m["source"]), _since(m["started"])] for m in mounts)
        print_table(context.out, ["MOUNTPOINT", "SOURCE", "SINCE"], rows)
    return 0


def _since(started: float) -> str:
    return time_text(started) if started else "unknown"


def stats_arguments(parser: argparse.ArgumentParser) -> None:
    """The mountpoint, --json, --watch."""
    parser.add_argument("mountpoint", metavar="MOUNTPOINT")
    json_flag(parser)
    parser.add_argument(
        "-w", "--watch", action="store_true", help="show rates once a second until Ctrl-C (a terminal's view)"
    )


def stats(context: Context, arguments: argparse.Namespace) -> int:
    """Shows the counters of a mount, nested ones with dotted names, or what happens every second."""
    if arguments.watch and arguments.json:
        raise SettingsError("--watch and --json exclude each other", "call stats --json as often as you need")
    if arguments.watch:
        from ossmount.cli.live_view import watch

        watch(lambda: context.app.read_statistics(arguments.mountpoint), arguments.mountpoint, context.out)
        return 0
    counters = context.app.read_statistics(arguments.mountpoint)
    if arguments.json:
        print_json(context.out, counters)
    else:
        print_fields(context.out, _flat(counters))
    return 0


def _flat(counters: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in counters.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        elif isinstance(value, float) and value != int(value):
            yield f"{above}{name}", f"{value:,.3f}"
        elif isinstance(value, int | float):
            yield f"{above}{name}", f"{value:,.0f}"


def warm_arguments(parser: argparse.ArgumentParser) -> None:
    """Mountpoint and paths, --label, --bytes, --json."""
    parser.add_argument("mountpoint", metavar="MOUNTPOINT")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="what to fetch (default: everything)")
    parser.add_argument("--label", metavar="LABEL", help="only files that have this label")
    parser.add_argument("--bytes", metavar="SIZE", help="stop before the file that would exceed this")
    json_flag(parser)


def warm(context: Context, arguments: argparse.Namespace) -> int:
    """Fetches into the disk cache, with progress."""
    limit = None
    if arguments.bytes is not None:
        try:
            limit = parse_size(arguments.bytes)
        except ValueError as error:
            raise SettingsError(f"--bytes: {error}") from error
    with progress_on(form=context.log_format) as report:
        done = context.app.warm(
            arguments.mountpoint, arguments.paths, label=arguments.label, limit=limit, report=report
        )
    if arguments.json:
        print_json(context.out, {**as_fields(done), "fetched_bytes": done.fetched_bytes})
    else:
        context.out.write(
            f"{done.files:,} files, {size_text(done.bytes)}: {size_text(done.fetched_bytes)} fetched,"
            f" {size_text(done.present_bytes)} cached before\n"
        )
    return 0


def doctor_arguments(parser: argparse.ArgumentParser) -> None:
    """An optional source, --json."""
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="what you want to mount, if it is known")
    json_flag(parser)


_MARKS = {True: "ok", False: "FAIL", None: "?"}


def doctor(context: Context, arguments: argparse.Namespace) -> int:
    """Shows findings as they come; 1 if one failed."""
    settings = context.settings(arguments)
    findings: list[FindingLike] = []
    for finding in context.app.doctor(arguments.source, settings):
        findings.append(finding)
        if not arguments.json:
            _show_finding(context, finding)
    if arguments.json:
        print_json(
            context.out,
            [{"name": f.name, "ok": f.ok, "detail": f.detail, "remedy": f.remedy} for f in findings],
        )
    return 1 if any(finding.ok is False for finding in findings) else 0


def _show_finding(context: Context, finding: FindingLike) -> None:
    context.out.write(f"{_MARKS[finding.ok]:<4}  {finding.name}: {printable(finding.detail)}\n")
    if finding.remedy and not finding.ok:
        context.out.write(f"      -> {finding.remedy}\n")
    context.out.flush()

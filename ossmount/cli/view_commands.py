"""The commands below ``ossmount view``, with their texts.

What may live here: as in :mod:`ossmount.cli.commands`: arguments in, one call of the application, the
answer out.
"""

from __future__ import annotations

import argparse

from ossmount.cli.command import Command, Context


def _name_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "view",
        metavar="NAME|FILE",
        help="a name, or a path, which contains '/' or ends in .json",
    )


def view_create(context: Context, arguments: argparse.Namespace) -> int:
    """Saves a view."""
    path = context.app.view_create(arguments.view, context.settings(arguments))
    context.out.write(f"{path}\n")
    return 0


def view_show(context: Context, arguments: argparse.Namespace) -> int:
    """Shows a view as it is saved."""
    context.out.write(context.app.view_show(arguments.view))
    return 0


VIEW_COMMANDS = (
    Command(
        ("view", "create"),
        "save a view: which files of an index are shown, and where",
        "The description is a small JSON file that others can use with --view; see docs/views.md. Options\n"
        "given beside --view at mount time win over those of the view.",
        (
            (
                "nine tenths to train on, and a tenth to validate with",
                "ossmount view create ninety --split train=0.9,val=0.1 --seed 7",
            ),
            (
                "as a file for others",
                "ossmount view create ./cats.json --label cat,kitten --suffix .jpg --layout labels",
            ),
        ),
        view_create,
        _name_argument,
        sections=("view", "index"),
        omit=("index", "on_bad_key", "rebuild"),
        usage="NAME|FILE",
    ),
    Command(
        ("view", "show"),
        "show a saved view",
        "",
        (("as JSON", "ossmount view show ninety"),),
        view_show,
        _name_argument,
        usage="NAME|FILE",
    ),
)

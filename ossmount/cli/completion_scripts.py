"""Offers as scripts of bash, zsh and fish. None needs a package of the shell beside the shell itself.

What may live here: text in the languages of shells. Who may touch it: whoever knows the shell; tests ask
the shells themselves what they offer.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

from ossmount.cli.completion import Flag, Offer, Value

_TOP_FLAGS = ("--help", "--version")

Groups = Mapping[str, Sequence[Offer]]


def _groups(offers: Sequence[Offer]) -> Groups:
    """Offers by first word: commands of one word alone, ``index build`` and its like together."""
    ordered = sorted(offers, key=lambda offer: offer.words)
    return {word: list(group) for word, group in groupby(ordered, key=lambda offer: offer.words[0])}


def _is_family(group: Sequence[Offer]) -> bool:
    return len(group[0].words) > 1


# -- bash -----------------------------------------------------------------------------------------------

_BASH_HEAD = r"""# bash completion of ossmount, made by 'ossmount completion bash'
_ossmount_offer() { # KIND [WORD...]
    local kind=$1 word
    shift
    case $kind in
        words) mapfile -t COMPREPLY < <(compgen -W "$*" -- "$cur") ;;
        files) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        directories) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
        mounts)
            compopt -o filenames 2>/dev/null
            while read -r _ word kind _; do
                # Blanks stand as octal escapes in there.
                [ "$kind" = fuse.ossmount ] && printf -v word %b "$word" && [[ $word == "$cur"* ]] &&
                    COMPREPLY+=("$word")
            done </proc/self/mounts
            ;;
    esac
}

_ossmount() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]}
    COMPREPLY=()
    # readline makes a word of the '=' in --flag=value.
    if [ "$cur" = = ]; then
        cur=
    elif [ "$prev" = = ]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
"""

_BASH_KINDS = {Value.FILE: "files", Value.DIRECTORY: "directories", Value.MOUNT: "mounts"}


def bash(offers: Sequence[Offer]) -> str:
    """For ``source <(ossmount completion bash)``."""
    groups = _groups(offers)
    first = " ".join([*groups, *_TOP_FLAGS])
    lines = ['    if [ "$COMP_CWORD" = 1 ]; then', f"        _ossmount_offer words {first}", "        return"]
    for word, group in groups.items():
        if _is_family(group):
            seconds = " ".join(offer.words[1] for offer in group)
            lines += [
                f'    elif [ "$command" = {word} ]; then',
                f'        [ "$COMP_CWORD" = 2 ] && _ossmount_offer words {seconds} && return',
                '        command="$command ${COMP_WORDS[2]}"',
            ]
    lines += ["    fi", "    case $command in"]
    for offer in offers:
        lines += _bash_case(offer)
    return "\n".join([_BASH_HEAD.rstrip(), *lines, "    esac", "}", "complete -F _ossmount ossmount", ""])


def _bash_case(offer: Offer) -> Iterator[str]:
    yield f"        {shlex.quote(' '.join(offer.words))})"
    valued = [flag for flag in offer.flags if flag.value is not Value.NOTHING]
    if valued:
        yield "            case $prev in"
        for flag in valued:
            offered = _bash_offer(flag.value, flag.choices)
            yield f"                {' | '.join(flag.names)}) {offered}return ;;"
        yield "            esac"
    names = " ".join(name for flag in offer.flags for name in flag.names)
    yield f'            if [[ $cur == -* ]]; then _ossmount_offer words "{names}"'
    positional = _bash_offer(offer.positional, offer.choices)
    yield f"            else {positional or ': '}".rstrip("; ")
    yield "            fi"
    yield "            ;;"


def _bash_offer(value: Value, choices: Sequence[str]) -> str:
    if value is Value.CHOICE:
        return f"_ossmount_offer words {' '.join(choices)}; "
    kind = _BASH_KINDS.get(value)
    return f"_ossmount_offer {kind}; " if kind else ""


# -- zsh ------------------------------------------------------------------------------------------------

_ZSH_HEAD = r"""#compdef ossmount
# zsh completion of ossmount, made by 'ossmount completion zsh'

_ossmount_mounts() {
    local -a points
    # Blanks stand as octal escapes in there.
    points=(${(f)"$(awk '$3 == "fuse.ossmount" { print $2 }' /proc/self/mounts)"})
    compadd -- ${(g:o:)points}
}
"""

_ZSH_KINDS = {
    Value.FILE: "_files",
    Value.DIRECTORY: "_files -/",
    Value.MOUNT: "_ossmount_mounts",
    Value.TEXT: " ",
}


def zsh(offers: Sequence[Offer]) -> str:
    """For a file ``_ossmount`` in a directory of ``$fpath``."""
    groups = _groups(offers)
    lines = ["_ossmount() {", "    local -a offered"]
    lines += _zsh_words(2, [(word, _summary(group)) for word, group in groups.items()])
    lines += ["    case $words[2] in"]
    for word, group in groups.items():
        lines.append(f"        {word})")
        lines += _zsh_family(group) if _is_family(group) else _zsh_arguments(group[0])
        lines.append("            ;;")
    return "\n".join([_ZSH_HEAD, *lines, "    esac", "}", "", _ZSH_TAIL])


_ZSH_TAIL = """# Autoloaded from $fpath this file is the function itself; sourced it only announces it.
if [ "$funcstack[1]" = _ossmount ]; then
    _ossmount "$@"
else
    compdef _ossmount ossmount
fi
"""


def _summary(group: Sequence[Offer]) -> str:
    return " | ".join(offer.words[1] for offer in group) if _is_family(group) else group[0].summary


def _zsh_words(position: int, words: Sequence[tuple[str, str]]) -> list[str]:
    described = [shlex.quote(f"{word}:{text}") for word, text in words]
    return [
        f"    if (( CURRENT == {position} )); then",
        "        offered=(",
        *(f"            {text}" for text in described),
        "        )",
        "        _describe command offered",
        "        return",
        "    fi",
    ]


def _zsh_family(group: Sequence[Offer]) -> Iterator[str]:
    yield from (f"        {line}" for line in _zsh_words(3, [(o.words[1], o.summary) for o in group]))
    yield "            case $words[3] in"
    for offer in group:
        yield f"                {offer.words[1]})"
        yield from _zsh_arguments(offer)
        yield "                    ;;"
    yield "            esac"


def _zsh_arguments(offer: Offer) -> Iterator[str]:
    """Positions count from the command's last word, so what stands before it is shifted away."""
    before = len(offer.words)
    yield f"            shift {before} words; (( CURRENT -= {before} ))"
    yield "            _arguments -S \\"
    for flag in offer.flags:
        for name in flag.names:
            yield f"                {shlex.quote(_zsh_flag(name, flag))} \\"
    action = _zsh_action(offer.positional, offer.choices)
    yield f"                {shlex.quote(f'*:argument:{action}')}" if action else "                ':: :'"


def _zsh_flag(name: str, flag: Flag) -> str:
    text = flag.help.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
    if flag.value is Value.NOTHING:
        return f"{name}[{text}]"
    mark = "=" if name.startswith("--") else "+"
    return f"*{name}{mark}[{text}]:value:{_zsh_action(flag.value, flag.choices)}"


def _zsh_action(value: Value, choices: Sequence[str]) -> str:
    return f"({' '.join(choices)})" if value is Value.CHOICE else _ZSH_KINDS.get(value, "")


# -- fish -----------------------------------------------------------------------------------------------

_FISH_HEAD = """# fish completion of ossmount, made by 'ossmount completion fish'
function __ossmount_mounts
    # Blanks stand as octal escapes in there.
    awk '$3 == "fuse.ossmount" { print $2 }' /proc/self/mounts | string unescape
end

complete -c ossmount -f
complete -c ossmount -n __fish_use_subcommand -l version -d 'show the version'
complete -c ossmount -n __fish_use_subcommand -l help -d 'show all commands'
"""

_FISH_KINDS = {
    Value.FILE: " -F",
    Value.DIRECTORY: " -a '(__fish_complete_directories)'",
    Value.MOUNT: " -a '(__ossmount_mounts)'",
}


def fish(offers: Sequence[Offer]) -> str:
    """For a file ``ossmount.fish`` in a directory of completions."""
    lines = [_FISH_HEAD]
    for word, group in _groups(offers).items():
        lines.append(_fish_word("__fish_use_subcommand", word, _summary(group)))
        if _is_family(group):
            second = " ".join(offer.words[1] for offer in group)
            chosen = f"__fish_seen_subcommand_from {word}; and not __fish_seen_subcommand_from {second}"
            lines += [_fish_word(chosen, offer.words[1], offer.summary) for offer in group]
        for offer in group:
            lines += _fish_offer(offer)
    return "\n".join(lines) + "\n"


def _fish_word(condition: str, word: str, text: str) -> str:
    return f"complete -c ossmount -n {_fish_quote(condition)} -a {word} -d {_fish_quote(text)}"


def _fish_offer(offer: Offer) -> Iterator[str]:
    condition = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in offer.words)
    start = f"complete -c ossmount -n {_fish_quote(condition)}"
    for flag in offer.flags:
        names = " ".join(
            f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names
        )
        takes = {Value.NOTHING: "", Value.FILE: " -r"}.get(flag.value, " -x")
        yield f"{start} {names}{takes}{_fish_values(flag.value, flag.choices)} -d {_fish_quote(flag.help)}"
    values = _fish_values(offer.positional, offer.choices)
    if values:
        yield f"{start}{values}"


def _fish_values(value: Value, choices: Sequence[str]) -> str:
    if value is Value.CHOICE:
        return f" -a {_fish_quote(' '.join(choices))}"
    return _FISH_KINDS.get(value, "")


def _fish_quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


SCRIPTS: Mapping[str, Callable[[Sequence[Offer]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
"""By the name of the shell."""

"""What shells evaluate to complete our commands: a name that is inserted is one word, whatever is in it.

click's own script for bash inserts names as they are, so a file called ``t$(cmd).py`` would run cmd
on Enter; zsh and fish quote on their own. Importing this module replaces click's scripts.
"""

from __future__ import annotations

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
)

#: The type of items that are paths: a shell quotes what it knows to be one, as for `cat`.
PATH = "path"

_BASH = r"""
%(complete_func)s() {
    local line value
    COMPREPLY=()
    while IFS= read -r line; do
        value=${line#*,}
        case ${line%%%%,*} in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            path) compopt -o filenames; COMPREPLY+=("$value") ;;
            plain)
                [[ $value == *[!A-Za-z0-9_.,:/@+=-]* ]] && printf -v value %%q "$value"
                COMPREPLY+=("$value") ;;
        esac
    done < <(IFS=$'\n'; env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \
        %(complete_var)s=bash_complete "$1")
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@add_completion_class
class Bash(BashComplete):
    """click's, with words that are quoted where they have to be."""

    source_template = _BASH


@add_completion_class
class Zsh(ZshComplete):
    """click's: zsh quotes what it inserts."""

    def format_completion(self, item: CompletionItem) -> str:
        """Return what the script reads: it knows no paths among words."""
        return super().format_completion(_plain(item))


@add_completion_class
class Fish(FishComplete):
    """click's, with all of a name that has a comma: fish quotes what it inserts."""

    source_template = FishComplete.source_template.replace(
        'string split "," $completion', 'string split -m 1 "," $completion'
    ).replace("echo $metadata[2]", "printf '%%s\\n' $metadata[2]")

    def format_completion(self, item: CompletionItem) -> str:
        """Return what the script reads: it knows no paths among words."""
        return super().format_completion(_plain(item))


def _plain(item: CompletionItem) -> CompletionItem:
    return CompletionItem(item.value, help=item.help) if item.type == PATH else item

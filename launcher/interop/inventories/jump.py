"""Translate ssh arguments and a ProxyCommand into settings of ours. Source: ssh(1)."""

from __future__ import annotations

import shlex

#: Flags with a value that are a setting of ours, by their ssh_config(5) keyword.
_FLAGS = {"-J": "proxyjump", "-i": "identityfile", "-p": "port", "-l": "user"}
_OPTIONS = {
    "proxyjump": "proxy_jump",
    "identityfile": "identity_file",
    "port": "port",
    "user": "user",
    "hostname": "address",
}


def from_arguments(text: str) -> tuple[dict[str, str], list[str]]:
    """Return the settings of ours in ssh arguments, and the names of all other options."""
    try:
        words = shlex.split(text)
    except ValueError:
        return {}, [text.split()[0] if text.split() else "?"]
    settings: dict[str, str] = {}
    other: list[str] = []
    while words:
        word = words.pop(0)
        flag, value = word[:2], word[2:]
        if flag in (*_FLAGS, "-o") and not value and words:
            value = words.pop(0)
        if flag == "-o":
            name, _, value = value.replace("=", " ", 1).partition(" ")
            other += _option(settings, name, value.strip())
        elif flag in _FLAGS:
            other += _option(settings, _FLAGS[flag], value)
        elif word.startswith("-"):
            other.append(word.partition("=")[0])
    return settings, other


def _option(settings: dict[str, str], name: str, value: str) -> list[str]:
    """Store one option, or return its name if it is not a setting of ours."""
    if name.lower() in _OPTIONS:
        settings[_OPTIONS[name.lower()]] = value
        return []
    if name.lower() == "proxycommand" and (jump := from_proxy_command(value)):
        settings["proxy_jump"] = jump
        return []
    return [name]


def from_proxy_command(command: str) -> str | None:
    """Return ``[user@]host[:port]`` if a ProxyCommand is ``ssh -W %h:%p`` through a host, else None."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if not words or words[0].rpartition("/")[2] != "ssh":
        return None
    host, through, given = "", False, {"-p": "", "-l": ""}
    rest = words[1:]
    while rest:
        word = rest.pop(0)
        flag, value = word[:2], word[2:]
        if flag in ("-W", "-p", "-l") and not value:
            value = rest.pop(0) if rest else ""
        if flag == "-W":
            through = value in ("%h:%p", "[%h]:%p")
        elif flag in given:
            given[flag] = value
        elif word in ("-q", "-x", "-T", "-a"):
            continue
        elif word.startswith("-") or host:
            return None  # a key or a script: more than a jump host can express
        else:
            host = word
    if not host or not through:
        return None
    user = f"{given['-l']}@" if given["-l"] else ""
    return user + host + (f":{given['-p']}" if given["-p"] else "")

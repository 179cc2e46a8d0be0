"""Situations in which ssh(1) and launcher have to do the same: the table of the conformance suite.

A case is a text that goes before the ssh_config below. Braces name what the suite has prepared: files
in ``{d}``, the addresses of hosts, and sockets of agents. Where a case has no ``keys``, the right key
is named; ``known`` is the known_hosts file.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """``works``: whether ssh gets in, so that a mistake in the table shows. ``target``: the host."""

    head: str
    works: bool = True
    target: str = "gpu1"
    keys: str = "IdentityFile {d}/key\nIdentitiesOnly yes"
    known: str = "{d}/known"
    env: dict[str, str] = field(default_factory=dict)


BASE = """
Host gpu1
  HostName {gpu1}
Host gate
  HostName {gate}
Host inner
  HostName {inner}
  ProxyJump gate
Host restricted
  HostName {gate}
  Port 2201
Host certified
  HostName {gpu1}
  Port 2203
Host *
  User root
  {keys}
  UserKnownHostsFile {known}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  KexAlgorithms curve25519-sha256
"""

CONFIG = {
    "nothing special": Case(""),
    "a comment behind Host": Case("Host gpu1 # the first\n  HostName {gpu1} # its address\n"),
    "an apostrophe in a comment of another host": Case("Host other # Bob's box\n  Port 1\n"),
    "a comment behind a number": Case("Host gpu1\n  Port 22 # as usual\n"),
    "a comment behind Match all": Case("Match all # everybody\n  Compression no\n"),
    "a time with a unit": Case("ServerAliveInterval 1m\nConnectTimeout 1m30s\n"),
    "an equals sign": Case("Host=gpu1\n  Port=22\n  User = root\n"),
    "keywords in capitals": Case("HOST gpu1\n  HOSTNAME {gpu1}\n  PORT 22\n"),
    "quotes": Case('Host "gpu1"\n  HostName "{gpu1}"\n  User "root"\n'),
    "tabs and blank lines": Case("Host\tgpu1\n\n\n\t\tPort\t22\n"),
    "carriage returns": Case("Host gpu1\r\n  Port 22\r\n"),
    "patterns": Case("Host gpu?\n  Port 22\nHost g*1 !gpu2\n  User root\n"),
    "a negated pattern": Case("Host * !gpu1\n  Port 1\n"),
    "a list in one pattern": Case("Host gpu2,gpu1\n  Port 1\n"),
    "the name in HostName": Case("Host gpu1\n  HostName {gpu1}\nHost *\n  HostName %h\n"),
    "the first value wins": Case("Host gpu1\n  Port 22\nHost gpu1\n  Port 1\n"),
    "another user": Case("User alice\n"),
    "a user who is not there": Case("User nobody-here\n", works=False),
    "a wrong port": Case("Port 1\n", works=False),
    "a name that is unknown": Case("HostName nowhere.invalid\n", works=False),
    "Match host": Case("Match host {gpu1}\n  User alice\n"),
    "Match originalhost": Case("Match originalhost gpu1\n  User alice\n"),
    "Match user": Case("Match user nobody-here\n  Port 1\n"),
    "Match localuser": Case("Match localuser root\n  User alice\n"),
    "Match, not": Case("Match !originalhost gpu1\n  Port 1\n"),
    "Match exec, true": Case('Match exec "true"\n  User alice\n'),
    "Match exec, false": Case('Match exec "false"\n  Port 1\n'),
    "Match exec with tokens": Case('Match exec "test %n:%h:%p = gpu1:gpu1:22"\n  User alice\n'),
    "Match exec of the shell": Case('Match exec "test -n $HOME && test 1 = 1"\n  User alice\n'),
    "Match exec with an equals sign": Case("Match exec \"test a=b = 'a=b'\"\n  User alice\n"),
    "Match final": Case("Match final host {gpu1}\n  Compression yes\n"),
    "Include": Case("Include {d}/more/10-*\n"),
    "Include in order": Case("Include {d}/more/*\n"),
    "Include within Host": Case("Host gpu1\n  Include {d}/more/20-bad-port\n", works=False),
    "Include of nothing": Case("Include {d}/nothing*\n"),
    "RequestTTY force": Case("RequestTTY force\n"),
    "SendEnv and SetEnv": Case("SendEnv LANG\nSetEnv A=b\n"),
    "a forwarding": Case("RemoteForward 0 localhost:1\n"),
    "ControlMaster": Case("ControlMaster auto\nControlPath {d}/%C\n"),
    "Compression": Case("Compression yes\n"),
    "one cipher": Case("Ciphers aes256-ctr\n"),
    "another cipher": Case("Ciphers chacha20-poly1305@openssh.com\n"),
    "one MAC": Case("Ciphers aes128-ctr\nMACs hmac-sha2-512\n"),
    "one more key exchange": Case("KexAlgorithms +diffie-hellman-group14-sha256\n"),
    "no file of known hosts": Case("UserKnownHostsFile none\n", works=False),
    "one kind of host key": Case("HostKeyAlgorithms ssh-ed25519\n"),
    "a kind of host key that it has not": Case("HostKeyAlgorithms rsa-sha2-256\n", works=False),
    "no publickey among the ways to log in": Case("PreferredAuthentications password\n", False),
    "publickey behind others": Case("PreferredAuthentications keyboard-interactive,publickey\n"),
    "an interface that leads elsewhere": Case("BindInterface lo\n", False),
    "a larger RSA key": Case("RequiredRSASize 4096\n"),
    "standard input is nothing": Case("StdinNull yes\n"),
    "in the background": Case("ForkAfterAuthentication yes\n"),
    "a canonical name": Case("CanonicalizeHostname yes\nCanonicalDomains invalid\n"),
    "an old keyword": Case("Protocol 2\nUsePrivilegedPort no\n"),
    "IPv4 alone": Case("AddressFamily inet\n"),
    "IPv6 alone": Case("AddressFamily inet6\n", works=False),
    "BindAddress": Case("BindAddress {here}\n"),
    "BindAddress of another machine": Case("BindAddress 192.0.2.1\n", works=False),
    "a keyword that is unknown": Case("Prot 22\n", works=False),
    "IgnoreUnknown": Case("IgnoreUnknown Prot\nProt 22\n"),
    "a number that is none": Case("Port twenty\n", works=False),
    "a quote without its end": Case("User 'root\n", works=False),
}  # fmt: skip

_NO_KEYS = "IdentitiesOnly no"
KEYS = {
    "a key that is missing, and the right one": Case("IdentityFile {d}/missing\n"),
    "only a key that is missing": Case("", False, keys="IdentityFile {d}/missing"),
    "a wrong key, and the right one": Case("IdentityFile {d}/wrong1\n"),
    "more wrong keys than the server takes": Case(
        "".join(f"IdentityFile {{d}}/wrong{n}\n" for n in range(1, 7)), False
    ),
    "a key that others may read": Case("", False, keys="IdentityFile {d}/open-key"),
    "garbage, and the right one": Case("IdentityFile {d}/garbage\n"),
    "tokens in its path": Case("", keys="IdentityFile {d}/key-%r-%p-%n"),
    "a variable in its path": Case("", keys="IdentityFile ${{WHERE}}/key", env={"WHERE": "{d}"}),
    "quotes around its path": Case("", keys='IdentityFile "{d}/a key"'),
    "a key with a passphrase": Case("", False, keys="IdentityFile {d}/locked"),
    "no public keys": Case("PubkeyAuthentication no\n", False),
    "IdentityFile none": Case("", False, keys="IdentityFile none"),
    "an agent": Case("", keys=_NO_KEYS, env={"SSH_AUTH_SOCK": "{right}"}),
    "a public key, and an agent": Case(
        "", keys="IdentityFile {d}/public\nIdentitiesOnly yes", env={"SSH_AUTH_SOCK": "{many}"}
    ),
    "an agent with too many keys": Case("", False, keys=_NO_KEYS, env={"SSH_AUTH_SOCK": "{many}"}),
    "the same, and the right one is named": Case(
        "", keys="IdentityFile {d}/key", env={"SSH_AUTH_SOCK": "{many}"}
    ),
    "an agent with others, a key file": Case(
        "", False, keys="IdentityFile {d}/key", env={"SSH_AUTH_SOCK": "{wrong}"}
    ),
    "the same with IdentitiesOnly": Case("", env={"SSH_AUTH_SOCK": "{wrong}"}),
    "IdentityAgent": Case("IdentityAgent {right}\n", keys=_NO_KEYS),
    "IdentityAgent by a variable": Case(
        "IdentityAgent $MINE\n", keys=_NO_KEYS, env={"MINE": "{right}"}
    ),
    "IdentityAgent none": Case(
        "IdentityAgent none\n", False, keys=_NO_KEYS, env={"SSH_AUTH_SOCK": "{right}"}
    ),
    "an agent that is gone": Case("", env={"SSH_AUTH_SOCK": "{d}/no-socket"}),
    "a certificate beside the key": Case("User carol\n", keys="IdentityFile {d}/signed"),
    "a certificate by name": Case(
        "User carol\nCertificateFile {d}/signed-cert.pub\n", keys="IdentityFile {d}/bare"
    ),
    "no certificate": Case("User carol\n", False),
}  # fmt: skip

KNOWN = {
    "a line that is none": Case("", known="{d}/k-equals"),
    "a marker that is unknown": Case("", known="{d}/k-marker"),
    "bytes that are no text": Case("", known="{d}/k-bytes"),
    "carriage returns in known_hosts": Case("", known="{d}/k-crlf"),
    "hashed": Case("", known="{d}/k-hashed"),
    "a pattern": Case("", known="{d}/k-pattern"),
    "a pattern that leaves it out": Case("", False, known="{d}/k-negated"),
    "an alias": Case("HostKeyAlias my-box\n", known="{d}/k-alias"),
    "an alias that is unknown": Case("HostKeyAlias other\n", False),
    "only the name, not the address": Case("", False, known="{d}/k-name"),
    "the name, and HostName is it": Case("HostKeyAlias gpu1\n", known="{d}/k-name"),
    "a name in capitals": Case("HostKeyAlias GPU1\n", known="{d}/k-name"),
    "a host that is unknown": Case("", False, known="{d}/k-empty"),
    "a file that is missing": Case("", False, known="{d}/missing"),
    "two files": Case("", known="{d}/missing {d}/known"),
    "a file with a space in its name": Case("", known='"{d}/k spaced"'),
    "the system's file": Case("GlobalKnownHostsFile {d}/known\n", known="/dev/null"),
    "another key of the host": Case("", False, known="{d}/k-changed"),
    "the right key behind another": Case("", known="{d}/k-both"),
    "a revoked key": Case("", False, known="{d}/k-revoked"),
    "a key of a kind that it has not": Case("", False, known="{d}/k-rsa"),
    "a key that is revoked by a file": Case("RevokedHostKeys {d}/host.pub\n", False),
    "another key that is": Case("RevokedHostKeys {d}/wrong1.pub\n"),
    "a file of revoked keys that is missing": Case("RevokedHostKeys {d}/missing\n", False),
    "an authority that signs otherwise": Case(
        "CASignatureAlgorithms rsa-sha2-512\n", False, known="{d}/k-authority", target="certified"
    ),
    "an authority": Case("", known="{d}/k-authority", target="certified"),
    "an authority of others": Case("", False, known="{d}/k-authority-of-others", target="certified"),
    "another port, known with it": Case("", known="{d}/k-port", target="restricted"),
    "another port, known without": Case("", target="restricted"),
    "KnownHostsCommand": Case("KnownHostsCommand /bin/cat {d}/known\n", known="/dev/null"),
    "KnownHostsCommand with tokens": Case(
        "KnownHostsCommand /bin/sh {d}/known.sh %H\n", known="/dev/null"
    ),
    "KnownHostsCommand that fails": Case("KnownHostsCommand /bin/false\n", False, known="/dev/null"),
}  # fmt: skip

ROUTES = {
    "a jump host": Case("", target="inner"),
    "a jump host with a user": Case("Host inner\n  ProxyJump root@gate\n", target="inner"),
    "a jump host with a port": Case("Host inner\n  ProxyJump gate:22\n", target="inner"),
    "a jump host as a URI": Case("Host inner\n  ProxyJump ssh://root@gate:22\n", target="inner"),
    "a jump host in quotes, and a comment": Case(
        'Host inner\n  ProxyJump "gate"  # by the way\n', target="inner"
    ),
    "a jump host by its address": Case("Host inner\n  ProxyJump {gate}\n", target="inner"),
    "a wrong user of the jump host": Case(
        "Host inner\n  ProxyJump nobody-here@gate\n", False, target="inner"
    ),
    "a jump behind a jump": Case("Host gpu1\n  ProxyJump inner\n"),
    "a jump behind a jump, with a user": Case("Host gpu1\n  ProxyJump root@inner\n"),
    "a list of jumps": Case("Host gpu1\n  ProxyJump gate,inner\n"),
    "a list of jumps with users": Case("Host gpu1\n  ProxyJump root@gate:22,root@inner:22\n"),
    "no jump": Case("Host inner\n  ProxyJump none\n  ConnectTimeout 2\n", False, target="inner"),
    "a jump through itself": Case("Host loop\n  ProxyJump loop\n", False, target="loop"),
    "a jump host that forwards nothing": Case(
        "Host inner\n  ProxyJump restricted\n", False, target="inner"
    ),
    "ProxyCommand": Case("Host inner\n  ProxyCommand ssh -F {d}/plain -W %h:%p gate\n", target="inner"),
    "ProxyCommand before ProxyJump": Case(
        "Host gpu1\n  ProxyCommand ssh -F {d}/plain -W %h:%p gate\n  ProxyJump nowhere.invalid\n"
    ),
    "ProxyJump before ProxyCommand": Case("Host gpu1\n  ProxyJump gate\n  ProxyCommand false\n"),
    "ProxyCommand of the shell": Case(
        "Host inner\n  ProxyCommand ssh -F {d}/plain -W %h:%p gate 2>/dev/null\n", target="inner"
    ),
    "ProxyCommand with a variable": Case(
        "Host inner\n  ProxyCommand $VIA -F {d}/plain -W '[%h]:%p' gate\n", target="inner",
        env={"VIA": "ssh"},
    ),
    "ProxyCommand in quotes": Case(
        'Host inner\n  ProxyCommand sh -c "ssh -F {d}/plain -W %h:%p gate"\n', target="inner"
    ),
    "ProxyCommand that fails": Case("Host inner\n  ProxyCommand false\n", False, target="inner"),
    "ProxyCommand none": Case("ProxyCommand none\n"),
    "IPv6": Case("Host gpu1\n  HostName {gpu1v6}\n", known="{d}/k-v6"),
    "IPv6 through a jump": Case(
        "Host gpu1\n  HostName {gpu1v6}\n  ProxyJump root@[{gatev6}]:22\n", known="{d}/k-v6"
    ),
}  # fmt: skip

#: Where the home, or the system's own file, decides: the head is the file that is named first.
HOMES = {
    "~/.ssh/config": {".ssh/config": "{base}"},
    "the system's file": {"/etc/ssh/ssh_config": "{base}"},
    "both": {".ssh/config": "Host gpu1\n  User alice\n", "/etc/ssh/ssh_config": "{base}"},
    "the usual key": {".ssh/config": "{nokeys}", ".ssh/id_ed25519": "{key}"},
    "a key in ~": {".ssh/config": "IdentityFile ~/k\n{nokeys}", "k": "{key}"},
    "Include beside it": {".ssh/config": "Include c.d/*\n", ".ssh/c.d/a": "{base}"},
    "the usual known_hosts": {".ssh/config": "{noknown}", ".ssh/known_hosts": "{known}"},
    "the second known_hosts": {".ssh/config": "{noknown}", ".ssh/known_hosts2": "{known}"},
    "no known_hosts": {".ssh/config": "{noknown}"},
    "no ~/.ssh": {},
    "Match exec in ~": {
        ".ssh/config": 'Match exec "~/bin/yes %n"\n  User alice\n{base}', "bin/yes": "#!/bin/sh\n",
    },
    "ProxyCommand in ~": {
        ".ssh/config": "Host gpu1\n  ProxyCommand ~/bin/via %h %p\n{base}",
        "bin/via": '#!/bin/sh\nexec ssh -F {d}/plain -W "$1:$2" gate\n',
    },
}  # fmt: skip

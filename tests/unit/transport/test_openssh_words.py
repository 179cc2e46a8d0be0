"""What ssh(1) says when it does not get in, as OpenSSH 9.2 writes it."""

from __future__ import annotations

import pytest

from launcher.transport import openssh_words

CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
The fingerprint for the ED25519 key sent by the remote host is
SHA256:qLtfKmoGhsYKmC7mZQjQ3zZpX3o7uZ8QH6Wv6o1u2aM.
Please contact your system administrator.
Host key for gpu1 has changed and you have requested strict checking.
Host key verification failed.
"""


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        (
            CHANGED,
            "host-key-mismatch",
            "changed to SHA256:qLtfKmoGhsYKmC7mZQjQ3zZpX3o7uZ8QH6Wv6o1u2aM (",
        ),
        (
            "No ED25519 host key is known for gpu1 and you have requested strict checking.\n"
            "Host key verification failed.\n",
            "unknown-host-key",
            "the ED25519 host key is not in known_hosts",
        ),
        (
            "ssh: connect to host 10.0.0.1 port 22: Connection refused\n",
            "connection-refused",
            "nothing listens on 10.0.0.1 port 22",
        ),
        (
            "ssh: connect to host 10.0.0.1 port 22: Connection timed out\r\n",
            "unreachable",
            "cannot reach 10.0.0.1 port 22: no answer",
        ),
        (
            "ssh: connect to host 10.0.0.1 port 22: No route to host\n",
            "unreachable",
            "cannot reach 10.0.0.1 port 22: No route to host",
        ),
        (
            "ssh: Could not resolve hostname gpu1: Name or service not known\n",
            "unreachable",
            "cannot reach it: Could not resolve hostname gpu1: Name or service not known",
        ),
        (
            "Connection timed out during banner exchange\nConnection to 10.0.0.1 port 22 timed out\n",
            "sshd-frozen",
            "does not answer (greeting)",
        ),
        (
            "Connection timed out during banner exchange\nConnection to UNKNOWN port 65535 timed out\n",
            "unreachable",
            "no answer through its jump host or ProxyCommand",
        ),
        (
            "bob@gpu1: Permission denied (publickey).\n",
            "authentication-failed",
            "ssh: bob@gpu1: Permission denied (publickey).",
        ),
        ("", "no-connection", "ssh gave no reason"),
    ],
)
def test_each_has_its_own_error(said: str, code: str, words: str) -> None:
    error = openssh_words.explained("gpu1", said)
    assert words in error.message
    assert (error.host, error.code) == ("gpu1", code)
    assert error.hint

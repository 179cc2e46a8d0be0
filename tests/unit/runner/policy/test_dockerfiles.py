"""Steps of a Dockerfile and their lines, and what a log says of a build that failed."""

from __future__ import annotations

import pytest

from launcher.runner.policy import dockerfiles

TEXT = """\
# syntax=docker/dockerfile:1
ARG BASE=python:3
FROM ${BASE} AS first

RUN echo one \\
  # why
  && echo two
RUN <<END
FROM nothing
END
FROM --platform=linux/arm64 scratch
COPY --from=first / /
RUN make
"""
FOUND = dockerfiles.instructions(TEXT)


def test_instructions_have_the_line_where_they_begin() -> None:
    assert [(one.line, one.word, one.stage) for one in FOUND] == [
        (2, "ARG", 0),
        (3, "FROM", 1),
        (5, "RUN", 1),
        (8, "RUN", 1),
        (11, "FROM", 2),
        (12, "COPY", 2),
        (13, "RUN", 2),
    ]
    assert FOUND[2].text == "RUN echo one && echo two"


def test_what_stages_begin_from_is_known_with_arguments() -> None:
    assert [one.name for one in dockerfiles.bases(FOUND, {})] == ["python:3", ""]
    assert dockerfiles.bases(FOUND, {"BASE": "x:1"})[0].name == "x:1"
    assert dockerfiles.machine_of(dockerfiles.bases(FOUND, {})) == ("aarch64", 11)


@pytest.mark.parametrize(
    ("line", "label", "at"),
    [
        (
            "[1/2] STEP 2/3: RUN echo one   && echo two",
            "stage 1, step 2/3: RUN echo one && echo two",
            5,
        ),
        ("[2/2] STEP 1/3: FROM scratch", "stage 2, step 1/3: FROM scratch", 11),
        ("[2/2] STEP 3/3: RUN make", "stage 2, step 3/3: RUN make", 13),
        ("Step 7/7 : RUN make", "step 7/7: RUN make", 13),
        ("#9 [stage-1 3/3] RUN make", "step 3/3: RUN make", 13),
    ],
)
def test_a_step_of_a_log_has_its_line(line: str, label: str, at: int) -> None:
    found = dockerfiles.step(line)
    assert found is not None
    assert found.label == label
    assert dockerfiles.line_of(FOUND, found) == at


@pytest.mark.parametrize(
    "line", ["--> a18c058aa819", "#1 [internal] load build", "step one", "COMMIT"]
)
def test_other_lines_are_no_steps(line: str) -> None:
    assert dockerfiles.step(line) is None


@pytest.mark.parametrize(
    ("log", "said", "code", "what"),
    [
        (
            '[2/2] STEP 3/3: RUN make\noh\nError: building at STEP "RUN make": exit status 2',
            "Error",
            "",
            "line 13: RUN make ended with exit code 2",
        ),
        (
            "[1/2] STEP 1/3: FROM python:3\nError: dial tcp: lookup x: no such host",
            "Error",
            "",
            "line 3: FROM ${BASE} AS first: its registry cannot be reached",
        ),
        (
            # a step that asks another server is not about the registry
            "[2/2] STEP 3/3: RUN make\ndial tcp: no such host\nError: exit status 7",
            "Error",
            "",
            "line 13: RUN make ended with exit code 7",
        ),
        (
            'Error: short-name "x" did not resolve to an alias and no unqualified-search registries',
            "Error",
            "",
            "FROM: podman does not know from which registry",
        ),
        (
            "[2/2] STEP 3/3: RUN make\nno space left on device",
            "no space left on device",
            "no-space",
            "line 13: RUN make: there is no room left",
        ),
        (
            '#9 [stage-1 3/3] RUN make\n#9 ERROR: process "/bin/sh -c make" did not complete '
            "successfully: exit code: 2\nDockerfile:13\n--------------------",
            "Error",
            "",
            "line 13: RUN make ended with exit code 2",
        ),
        (
            "[1/2] STEP 2/3: RUN echo one\nlauncher: containers cannot be made here for RUN; again\n"
            '[2/2] STEP 2/3: COPY --from=first / /\nError: building at STEP "COPY": no such file',
            'Error: building at STEP "COPY": no such file',
            "",
            "line 12: COPY --from=first / / failed: no such file",
        ),
    ],
)
def test_a_failure_has_its_line_and_cause(log: str, said: str, code: str, what: str) -> None:
    assert dockerfiles.failure(log, FOUND, said, code).what == what


def test_the_last_lines_are_without_noise() -> None:
    log = "STEP 1/1: RUN x\n" + "".join(f"line {n}\n" for n in range(20)) + "--> a18c058aa819\n"
    lines = dockerfiles.failure(log, FOUND, "", "").lines
    assert lines == tuple(f"line {n}" for n in range(12, 20))

"""The fixed parts of the exported scripts, in POSIX sh.

File descriptors: 3 is the original standard input, 8 reports which process has exited, and 9 (of
run.sh alone) keeps the standard input of the hosts' scripts open: they stop when it closes.
"""

from __future__ import annotations

from ...spec.frozen import frozen


@frozen
class Parts:
    """Text before, between and after the parts that depend on the job."""

    begin: str
    middle: str
    end: str


#: Find the interface towards the first host, which only the host itself can know.
INTERFACE = """\
address=$(getent ahostsv4 "$MASTER" 2>/dev/null | awk 'NR == 1 { print $1 }')
address=${address:-$MASTER}
device=$(ip -o addr show to "$address" 2>/dev/null | awk 'NR == 1 { print $2 }')
[ -n "$device" ] || device=$(ip -o route get "$address" 2>/dev/null |
  sed -n 's/.* dev \\([^ ]*\\).*/\\1/p')
if [ -n "$device" ]; then
  export NCCL_SOCKET_IFNAME="${NCCL_SOCKET_IFNAME:-$device}"
  export GLOO_SOCKET_IFNAME="${GLOO_SOCKET_IFNAME:-$device}"
fi"""

HOST = Parts(
    begin="""\
set -u
exec 3<&0
if [ "${1-}" = --stdin ]; then # from run.sh: variables, then nothing until it ends
  received=
  while IFS= read -r line && [ "$line" != '#go' ]; do received="$received$line
"; done
  eval "$received"
fi
# For you alone: what is in it may be secret.
(umask 077 && mkdir -p "$RUN/code" "$RUN/outputs" "$RUN/errors/attempt-0") &&
  chmod 700 "$RUN" && cd "$RUN/code" || exit 125""",
    middle="""\
MARK="$(date +%s).$$.$NODE"
scratch=$(mktemp -d) || exit 125
mkfifo "$scratch/ended" && exec 8<>"$scratch/ended" || exit 125
trap 'rm -rf "$scratch"' EXIT
trap : PIPE # the reader of our output may exit first
trap 'echo "stop 143 -" >&8' INT TERM HUP
watcher=
if [ "${1-}" = --stdin ]; then
  (
    cat <&3 >/dev/null
    echo "stop 143 -" >&8
  ) &
  watcher=$!
fi

# Pids of all processes started here, found by a variable that they inherit.
ours() {
  for place in /proc/[0-9]*; do
    if tr '\\0' '\\n' <"$place/environ" 2>/dev/null | grep -qx "LAUNCHER_MARK=$MARK"; then
      echo "${place#/proc/}"
    fi
  done 2>/dev/null
}

# Stop all processes: SIGTERM, then SIGKILL after the grace period.
stop_all() {
  for signal in TERM KILL; do
    seconds=0
    while pids=$(ours) && [ -n "$pids" ] && [ "$seconds" -lt "$GRACE" ]; do
      [ "$seconds" -gt 0 ] && [ "$signal" = TERM ] || kill -s "$signal" $pids 2>/dev/null
      sleep 1
      seconds=$((seconds + 1))
    done
  done
}

begin() { # KEY FUNCTION primary|other
  mkfifo "$scratch/$1"
  (
    exec 3<&- 8>&-
    while IFS= read -r line || [ -n "$line" ]; do printf '%s: %s\\n' "$1" "$line"; done <"$scratch/$1"
  ) &
  (
    (
      exec 3<&- 8>&-
      export LAUNCHER_MARK="$MARK"
      "$2"
    ) >"$scratch/$1" 2>&1 </dev/null
    echo "$1 $? $3" >&8
  ) &
}
""",
    end="""\
code=0 stopping=
while [ "$LEFT" -gt 0 ]; do
  read -r key status kind <&8 || continue
  if [ "$key" != stop ]; then
    LEFT=$((LEFT - 1))
    [ "$kind" != primary ] || [ "$status" -ne 0 ] || PRIMARIES=$((PRIMARIES - 1))
  fi
  [ -z "$stopping" ] || continue
  if [ "$status" -ne 0 ]; then
    code=$status stopping=yes
    echo "$key exited with $status: stopping the others on this host" >&2
    stop_all
  elif [ "$kind" = primary ] && [ "$PRIMARIES" -eq 0 ]; then
    stopping=yes # the others only serve the primaries
    stop_all
  fi
done
stop_all # stop what the processes left behind
[ -z "$watcher" ] || kill "$watcher" 2>/dev/null
exit "$code"
""",
)

DRIVER = Parts(
    begin="""\
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 125
SSH=${SSH:-ssh}
scratch=$(mktemp -d) || exit 125
trap 'rm -rf "$scratch"' EXIT
mkfifo "$scratch/ended" "$scratch/open" || exit 125
exec 8<>"$scratch/ended" 9<>"$scratch/open"
trap 'echo "stop 130 -" >&8' INT TERM HUP

quoted() { # quote a text as one word of a shell
  printf "'%s'\\\\n" "$(printf '%s' "$1" | sed "s/'/'\\\\\\\\''/g")"
}""",
    middle="""\
to() { # HOST COMMAND
  $SSH -F "$here/ssh_config" -o BatchMode=yes "$1" "$2"
}

private() { # FOLDER: a command that makes it for you alone
  echo "umask 077 && mkdir -p $1/code && chmod 700 $1"
}

take() { # HOST FOLDER: copy the code and the host's script
  if [ "${COPY:-yes}" != no ]; then
    tar -C "$WORKDIR" --exclude=./.git -cf - . | to "$1" "$(private "$2") && tar -C $2/code -xf -"
  fi && to "$1" "$(private "$2") && cat >$2/run.sh" <"$here/$1.sh"
}

begin() { # HOST FOLDER primary|other
  mkfifo "$scratch/in.$1"
  (
    exec 9>&- 8>&-
    {
      secrets
      cat "$scratch/open"
    } >"$scratch/in.$1"
  ) &
  feeder=$!
  (
    exec 9>&-
    take "$1" "$2" </dev/null 8>&- && to "$1" "sh $2/run.sh --stdin" <"$scratch/in.$1" 8>&-
    echo "$1 $? $3" >&8
    kill "$feeder" 2>/dev/null
  ) &
}
""",
    end="""\
code=0 stopping=
while [ "$LEFT" -gt 0 ]; do
  read -r host status kind <&8 || continue
  if [ "$host" != stop ]; then
    LEFT=$((LEFT - 1))
    [ "$kind" != primary ] || [ "$status" -ne 0 ] || PRIMARIES=$((PRIMARIES - 1))
  fi
  [ -z "$stopping" ] || continue
  if [ "$status" -ne 0 ]; then
    code=$status stopping=yes
    echo "$host exited with $status: stopping all others" >&2
    exec 9>&-
  elif [ "$kind" = primary ] && [ "$PRIMARIES" -eq 0 ]; then
    stopping=yes
    exec 9>&-
  fi
done
exit "$code"
""",
)

"""An ``accelerate`` in front of the real one, which hands it what torchrun reads from PET_RDZV_CONF.

Accelerate overrides that variable by an option of its own, which is empty unless it is given. Then no
host whose own name leads to loopback knows that it is the first, and none starts the store of c10d.
"""

from __future__ import annotations

#: A program for the folder ``relay`` of a run; it passes over itself on PATH.
PROGRAM = r"""#!/bin/sh
own=${0%/*}
set -f
IFS=:
for folder in $PATH; do
  program=$folder/accelerate
  if [ "$folder" = "$own" ] || [ ! -f "$program" ] || [ ! -x "$program" ]; then continue; fi
  if [ "$1" = launch ] && [ -n "$PET_RDZV_CONF" ]; then
    case " $*" in
      *[\ :]--rdzv_conf*) ;;
      *) shift; set -- launch --rdzv_conf "$PET_RDZV_CONF" "$@" ;;
    esac
  fi
  unset IFS
  exec "$program" "$@"
done
echo "accelerate: command not found" >&2
exit 127
"""

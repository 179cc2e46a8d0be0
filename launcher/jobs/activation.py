"""What bash runs to activate an environment, as its own tool would have it. Pure.

A host's ``conda`` or ``micromamba`` says how, if it can be found; without one the folder itself does:
PATH, the variables that ``conda env config vars`` keeps there, and its ``activate.d``.
"""

from __future__ import annotations

import shlex

from ..spec.environments import CONDA_BASES, MICROMAMBAS, PIXI_FOLDER, Environment, prefix

#: Runs in the environment's Python; prints its own variables, those of packages first.
_VARIABLES = """\
import glob, json, os, shlex, sys
found = {}
for path in sorted(glob.glob(glob.escape(sys.argv[1]) + "/etc/conda/env_vars.d/*.json")):
    found.update(json.load(open(path)))
state = sys.argv[1] + "/conda-meta/state"
if os.path.exists(state):
    found.update(json.load(open(state)).get("env_vars") or {})
for name, value in found.items():
    if name.isidentifier() and value != "***unset***":
        print("export %s=%s" % (name, shlex.quote(str(value))))
"""
#: $1 is the folder of the environment. A tool is asked for the very folder; what it says is believed
#: only if that is what is active then. Tools may fail in many ways, and the folder is enough.
_CONDA = (
    CONDA_BASES
    + MICROMAMBAS
    + """\
launcher_tools() {
  printf '%s\\n' "${1%/envs/*}/bin/conda" "${CONDA_EXE-}"
  launcher_bases | while IFS= read -r f; do printf '%s\\n' "$f/bin/conda"; done
  launcher_micromambas
}
launcher_activate() {
  local tool tools said each
  if [ ! -x "$1/bin/python" ]; then
    echo "launcher: environment: there is no Python in $1" >&2; return 1
  fi
  mapfile -t tools < <(launcher_tools "$1" | awk '!seen[$0]++')
  for tool in "${tools[@]}"; do
    if [ ! -x "$tool" ]; then continue; fi
    case $tool in
      */conda) said=$("$tool" shell.posix activate "$1" </dev/null 2>/dev/null);;
      *) said=$("$tool" shell activate "$1" --shell posix </dev/null 2>/dev/null);;
    esac || said=
    case $said in *CONDA_*=*) eval "$said";; *) continue;; esac
    if [ "${CONDA_PREFIX-}" -ef "$1" ]; then return 0; fi
  done
  each=$1
  case ${1%/*} in */envs) each=${1##*/};; esac
  export CONDA_PREFIX=$1 CONDA_SHLVL=1 CONDA_DEFAULT_ENV=$each CONDA_PROMPT_MODIFIER="($each) "
  PATH=$1/bin:$PATH
  eval "$("$1/bin/python" -I -S -c "$launcher_variables" "$1")"
  for each in "$1"/etc/conda/activate.d/*.sh; do
    if [ -r "$each" ]; then . "$each"; fi
  done
  return 0
}
"""
)
#: pixi is asked for the manifest beside which it has built the environment, by the one that has.
_PIXI = """\
launcher_pixi() {
  local said
  said=$("$1/pixi" shell-hook --shell bash --frozen --no-install --change-ps1 false \\
    --manifest-path "$2" </dev/null 2>/dev/null) || return 1
  case $said in *CONDA_PREFIX=*) eval "$said";; *) return 1;; esac
  [ "${CONDA_PREFIX-}" -ef "$3" ]
}
"""
#: A virtual environment that was moved or copied has another place in its script than its own.
_VENV = """\
launcher_activate() {
  if [ ! -x "$1/bin/python" ]; then
    echo "launcher: environment: there is no Python in $1" >&2; return 1
  fi
  if [ -r "$1/bin/activate" ]; then . "$1/bin/activate"; fi
  if [ ! "${VIRTUAL_ENV-}" -ef "$1" ]; then export VIRTUAL_ENV=$1 PATH="$1/bin:$PATH"; fi
  unset PYTHONHOME
}
"""


def activation(environment: Environment, python: str) -> str:
    """Return lines of bash that activate the environment to which ``python`` belongs on a host; they
    fail, with a word about it on stderr, where it is gone."""
    call = f"launcher_activate {shlex.quote(prefix(python))}"
    if environment.pixi:
        root = prefix(python).removesuffix(PIXI_FOLDER)
        words = shlex.join([root, f"{root}/manifest", prefix(python)])
        lines = f"launcher_variables={shlex.quote(_VARIABLES)}\n{_CONDA}{_PIXI}"
        return f"{lines}launcher_pixi {words} || {call}"
    if not environment.conda:
        return f"{_VENV}{call}"
    return f"launcher_variables={shlex.quote(_VARIABLES)}\n{_CONDA}{call}"

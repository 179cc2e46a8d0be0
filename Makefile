# Everything a stranger needs: `make demo` and `make test` set up what is missing by themselves.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
LOCK   := requirements/dev.txt
STAMP  := $(VENV)/.stamp-$(shell cat pyproject.toml $(LOCK) | cksum | cut -d' ' -f1)
DOCS   := $(VENV)/.stamp-docs-$(shell cat pyproject.toml $(LOCK) | cksum | cut -d' ' -f1)
HVD    := $(VENV)/.stamp-horovod-$(shell cksum launcher/fleet/bootstrap/build-horovod.sh | cut -d' ' -f1)
# What Horovod needs besides torch, so that every clone has the same.
HVDNEEDS := $(shell grep -E '^(cffi|cloudpickle|packaging|psutil|PyYAML)==' $(LOCK))
# What unit tests need besides launcher and its extras.
LOWEST := pytest pytest-timeout pytest-xdist hypothesis jsonschema httpx psutil tensorboard
# Hundreds of launchers are started: an image that sets this would have each compile itself anew.
export PYTHONDONTWRITEBYTECODE :=
SHOTS  := runs-desk-light failed-desk-dark output-desk-light scalars-desk-light metrics-desk-light compare-desk-dark plan-desk-light sweep-desk-light cluster-desk-dark
SUDO   := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: help demo test fuzz test-openssh quick flakes test-slow test-rare test-frameworks test-projects test-lowest lint docs reference screenshots man dist bench chaos vm horovod disk lock setup system clean

help: ## Shows this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: setup ## Trains a real DDP model over two embedded hosts
	$(BIN)/launcher run -i inventory/local.yaml examples/ddp_digits/job.yaml

test: setup system horovod ## Lints, then runs the suite, on real sshd hosts where this machine allows it
	$(MAKE) lint
	$(BIN)/python -m pytest -n 4 --dist worksteal $(ARGS)

quick: setup ## Lints and runs the unit tests that take milliseconds, in under a minute
	$(MAKE) lint
	$(BIN)/python -m pytest -q -n 3 --dist worksteal -m 'not thorough and not slow' tests/unit $(ARGS)

flakes: setup system horovod ## Runs the suite N times on a busy machine (10): N=3 ARGS="--spin 2 --select tests/lab"
	PYTHONPATH=tests $(BIN)/python -m support.flakes $(N) $(ARGS)

test-openssh: setup system ## The core of runs once more, with OpenSSH's client in asyncssh's place
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --transport openssh $(addprefix tests/lab/test_,$(addsuffix .py,run stop commands_on_runs detach host_session openssh)) $(ARGS)

test-slow: setup system horovod ## The rest of the suite: faults at random moments, upgrades, images, rare systems
	$(BIN)/python -m pytest -n 5 --dist worksteal -m 'slow and not frameworks and not rare' $(ARGS)

test-rare: setup system horovod ## More moments and orders in which something breaks, which CI leaves out
	$(BIN)/python -m pytest -n 5 --dist worksteal -m rare $(ARGS)

test-frameworks: setup system horovod ## TensorFlow, MXNet, JAX, plug-ins and others for real, each in its own environment
	@sh tests/support/install-system-packages.sh frameworks $(SUDO)
	PYTHONPATH=tests $(BIN)/python -m support.environments
	$(BIN)/python -m pytest -m frameworks -rs $(ARGS)

test-projects: setup system horovod ## Public projects as their README starts them, each with its time by hand
	PYTHONPATH=tests $(BIN)/python -m support.environments projects spark wrappers jax tensorflow deepspeed
	$(BIN)/python -m pytest -m projects -rs $(ARGS)

test-lowest: ## The unit tests with the lowest versions that pyproject.toml allows (requirements/lowest.txt)
	rm -rf build/lowest && $(PYTHON) -m venv build/lowest
	build/lowest/bin/python -m pip install --quiet --disable-pip-version-check -c requirements/lowest.txt -e '.[all]'
	build/lowest/bin/python -m pip install --quiet --disable-pip-version-check -c $(LOCK) $(LOWEST)
	build/lowest/bin/python -m pytest -q -n 2 --dist worksteal tests/unit $(ARGS) --deselect tests/unit/test_reference.py::test_generated_pages_are_current # its click says usage otherwise

vm: setup system ## Limits and logouts on a kernel and a systemd of their own: a Debian in qemu, emulated
	command -v qemu-system-x86_64 >/dev/null || $(SUDO) apt-get install -y -qq --no-install-recommends qemu-system-x86
	command -v debootstrap >/dev/null || $(SUDO) apt-get install -y -qq debootstrap
	PYTHONPATH=tests $(BIN)/python -m support.vm
	$(BIN)/python -m pytest -m vm -rs $(ARGS)

lint: setup ## ruff, strict typing, and the arrows between rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(DOCS) reference ## Builds the documentation strictly, into site/
	rm -rf site && $(BIN)/zensical build --clean --strict
	! grep -rnE '(src|href)="(https?:)?//[^"]*\.(js|css|woff2?)"' site # nothing comes from elsewhere

screenshots: setup system ## Takes the pictures of docs/guides/console.md again
	LAUNCHER_SCREENSHOTS=build/screenshots $(BIN)/python -m pytest -q tests/browser tests/lab/test_console_cluster.py
	for one in $(SHOTS); do cp build/screenshots/console-$$one.png docs/assets/; done

dist: setup ## Builds sdist and wheel into dist/, and runs the wheel in an empty environment
	PYTHONPATH=tests $(BIN)/python -m support.distribution

man: setup ## Writes man pages of all commands into man/: man -M man launcher-run
	$(BIN)/python docs/man.py man

reference: setup ## Writes the tables of docs/reference from the code
	$(BIN)/python docs/generate.py

$(DOCS): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(LOCK) -e '.[docs]'
	@touch $@

fuzz: setup ## Throws broken bytes at everything that reads what another machine sends: SECONDS=60
	PYTHONPATH=tests $(BIN)/python -m support.fuzz --seconds $(or $(SECONDS),60) $(ARGS)

bench: setup system ## Measures against what a user would pick instead (benchmarks/README.md)
	$(BIN)/python -m benchmarks $(ARGS)

chaos: setup system ## Real training with a fault at a random moment: ARGS="--rounds 52 --seed 7"
	PYTHONPATH=tests $(BIN)/python -m chaos.play $(ARGS)

horovod: $(HVD) ## Builds horovod against torch and installs it; the wheel is kept in ~/.cache/launcher

$(HVD): $(STAMP) | system
	@sh launcher/fleet/bootstrap/build-horovod.sh $(BIN)/python $(HVDNEEDS) && touch $@ || echo "no horovod: its tests are skipped" >&2

disk: setup ## A bare Debian for test hosts, kept in ~/.cache: then `make test` bootstraps it
	command -v debootstrap >/dev/null || $(SUDO) apt-get install -y -qq debootstrap
	PYTHONPATH=tests $(BIN)/python -m support.freshroot

lock: ## Resolves the development environment again and pins it in requirements/dev.txt
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 -e '.[docs,test]'
	@{ grep '^#' $(LOCK); build/lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } >build/lock.txt
	mv build/lock.txt $(LOCK) && rm -rf build/lock

system:
	@sh tests/support/install-system-packages.sh test $(SUDO)
	@sh tests/support/install-python.sh 3.14 || echo "no Python 3.14: its test is skipped" >&2

setup: $(STAMP)

$(STAMP): pyproject.toml $(LOCK)
	@sh tests/support/install-system-packages.sh demo $(SUDO)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(LOCK) torch==2.13.0 numpy==2.4.6
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(LOCK) -e '.[test]'
	@rm -f $(VENV)/.stamp-*
	@touch $@

clean: ## Removes the environment
	rm -rf $(VENV)

# envelope: how to see it, change it and prove it. `make` lists the targets.
#
# A fresh machine needs Python 3.11 or newer and make. Each target makes the virtual
# environment that it needs, from requirements that are pinned by hash.

PYTHON ?= python3
DEV := .venv
RUN := .venv-demo
PEERS := .venv-peers
PLOTS := .venv-plots
OLDEST := .venv-oldest
RELEASE := .venv-release
FUZZ := .venv-fuzz
MUTATION := .venv-mutation
BIN := $(DEV)/bin
JS := interop/js

SUITES := tests/unit tests/property tests/vectors tests/scenarios tests/adapters
DATA := docs/pictures/data
MINUTES := 10
CURVES := plain,curve,stunnel,dtls,relay,sealed,signed-bundled,sealed-bundled

export PYTHONDONTWRITEBYTECODE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test check lint format types arrows unit interop guard docs vectors wheel bench bench-peers bench-stream attacks plots soak picture lock clean oldest audit release demo-session fuzz mutation

help: ## list these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(RUN)/.stamp ## Zeek events through a hostile proxy, every lie of it named
	@$(RUN)/bin/python -m envelope.cli demo $(ARGS)

demo-session: $(RUN)/.stamp ## two processes that talk by a session, and a monkey that kills either
	@$(RUN)/bin/python -m envelope.cli demo-session $(ARGS)

test: check guard ## everything a change must pass, but the wheel

check: lint types arrows unit

lint: $(DEV)/.stamp ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(DEV)/.stamp ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(DEV)/.stamp ## mypy, strict
	$(BIN)/mypy

arrows: $(DEV)/.stamp ## import-linter: who may import whom
	$(BIN)/lint-imports

unit: $(DEV)/.stamp $(JS)/node_modules/.stamp ## pytest with branch coverage, and the coverage bars
	bash .ci/redis
	rm -f .coverage .coverage.*
	PYTHONWARNDEFAULTENCODING=1 $(BIN)/python -X dev -bb -m coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=95
	$(BIN)/coverage report --fail-under=100 --include="$$(cat tests/core.txt | paste -sd, -)"

interop: $(DEV)/.stamp $(JS)/node_modules/.stamp ## the implementation in JavaScript: all vectors, live exchanges, same verdicts
	$(BIN)/python -m pytest -q tests/interop

guard: $(DEV)/.stamp ## count the instructions of the hot paths beside what is known
	bash .ci/valgrind
	$(BIN)/python benchmarks/instructions.py $(ARGS)

mutation: $(MUTATION)/.stamp ## change the core in every small way, and see that a test fails: MODULES="wire codec"
	bash .ci/redis
	$(MUTATION)/bin/python tests/mutation --write docs/mutation.md $(MODULES) $(ARGS)

vectors: $(DEV)/.stamp ## generate tests/vectors/*.json and the example of SPEC.md anew
	$(BIN)/python tests/vectors/generate.py

wheel: $(DEV)/.stamp ## build the wheel, and test it with the source out of the way
	PYTHON=$(PYTHON) bash .ci/wheel $(ARGS)

oldest: $(OLDEST)/.stamp ## the tests with the lowest versions that pyproject.toml permits
	bash .ci/redis
	PYTHONWARNDEFAULTENCODING=1 $(OLDEST)/bin/python -X dev -bb -m pytest -q $(or $(ARGS),$(SUITES))

audit: $(RELEASE)/.stamp ## pip-audit, strict: are vulnerabilities known in what is pinned?
	bash .ci/audit

release: $(RELEASE)/.stamp ## build twice, compare, describe (SBOM) and hash what dist/ holds; publishes nothing
	bash .ci/release

bench: $(DEV)/.stamp ## the bars of docs/performance.md, as ratios in one run
	bash .ci/redis
	@# A bar that is missed must not leave the tables behind it as they were.
	@failed=; \
	for name in ratios threads growth flood replay zeromq sessions; do \
	  $(BIN)/python benchmarks/$$name.py --write docs/performance.md || failed="$$failed $$name"; \
	done; \
	$(BIN)/python benchmarks/scaling.py --write docs/guides/scaling.md || failed="$$failed scaling"; \
	test -z "$$failed" || { echo "a bar was missed, or it failed:$$failed"; exit 1; }

bench-peers: $(PEERS)/.stamp ## what a message costs here and with every peer, side by side in one run
	PYTHONPATH=benchmarks $(PEERS)/bin/python -m peers --write docs/performance.md \
	  --tables docs/peers.md --json $(DATA)/peers.json $(ARGS)

attacks: $(PEERS)/.stamp ## the attacks every glue meets, on this library and its peers; fails if ours lets one in
	PYTHONPATH=benchmarks:tests $(PEERS)/bin/python -m attacks --write docs/comparison.md $(ARGS)

bench-stream: $(PLOTS)/.stamp ## events through a proxy, beside CURVE, stunnel and DTLS; ten minutes
	bash .ci/stunnel
	$(PLOTS)/bin/python benchmarks/stream --rates --rounds 1 --subscribers 1 --only $(CURVES) \
	  --json $(DATA)/stream-latency.json > /dev/null || test $$? = 1
	$(PLOTS)/bin/python benchmarks/stream --json $(DATA)/stream.json --write docs/performance.md

plots: $(PLOTS)/.stamp ## draw docs/pictures/*.svg and *.png from docs/pictures/data
	$(PLOTS)/bin/python benchmarks/plots.py

fuzz: $(FUZZ)/.stamp ## every parser under atheris, MINUTES=10 in all; fails on a finding
	PYTHONPATH=tests:benchmarks $(FUZZ)/bin/python -m fuzz --minutes $(MINUTES) $(ARGS)

soak: $(DEV)/.stamp ## 200 kills, minutes of chaos, long properties: no replay gets in
	bash .ci/redis
	ENVELOPE_ROUNDS=200 $(BIN)/python -m pytest -q -o faulthandler_timeout=7200 tests/scenarios/test_kills.py
	ENVELOPE_CHAOS=180 $(BIN)/python -m pytest -q -o faulthandler_timeout=7200 tests/scenarios/test_chaos.py
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -q --timeout 7200 -o faulthandler_timeout=7200 \
	  tests/property/test_durable.py tests/property/test_shared.py

picture: $(RUN)/.stamp ## draw docs/demo.svg anew
	$(RUN)/bin/python -m envelope.cli demo --seed 7 --svg docs/demo.svg

lock: $(DEV)/.stamp ## pin the newest versions by hash in requirements/
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --upgrade --group dev --extra cli --extra openssl --extra pair --extra redis pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --extra cli pyproject.toml -c requirements/dev.txt -o requirements/run.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --upgrade requirements/peers.in pyproject.toml -c requirements/run.txt -o requirements/peers.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate requirements/plots.in -c requirements/dev.txt -o requirements/plots.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --extra cli --extra openssl --extra pair requirements/fuzz.in pyproject.toml -c requirements/dev.txt -o requirements/fuzz.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate pyproject.toml -c requirements/dev.txt -o requirements/core.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --extra cli --extra openssl --extra pair --extra redis pyproject.toml -c requirements/dev.txt -o requirements/extras.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --upgrade requirements/release.in -c requirements/dev.txt -o requirements/release.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate requirements/mutation.in -c requirements/dev.txt -o requirements/mutation.txt
	mkdir -p build
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
	  --resolution lowest-direct --extra cli --extra openssl --extra pair --extra redis pyproject.toml -o build/lowest.txt
	cp requirements/dev.txt requirements/oldest.txt  # uv keeps what it finds there, where it can.
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --group dev --extra cli --extra openssl --extra pair --extra redis pyproject.toml -c build/lowest.txt \
	  -o requirements/oldest.txt

clean: ## remove what the targets made
	rm -rf $(JS)/node_modules $(DEV) $(RUN) $(PEERS) $(PLOTS) $(OLDEST) $(RELEASE) $(FUZZ) $(MUTATION) .venv-wheel \
	  build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz

# A failed `python3 -m venv` leaves half a folder: only the stamp says that it is whole.
define make_venv
	@rm -rf $(1)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "envelope needs Python 3.11 or newer: make $@ PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(1) || { rm -rf $(1); \
	  echo "Python has no venv module here. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "installing what $(2) pins into $(1)"
	@$(1)/bin/python -m pip install --quiet --require-hashes --requirement $(2)
	@echo "$(CURDIR)" > "$$($(1)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/envelope-here.pth"
	@touch $(1)/.stamp
endef

$(DEV)/.stamp: requirements/dev.txt
	$(call make_venv,$(DEV),requirements/dev.txt)

$(RUN)/.stamp: requirements/run.txt
	$(call make_venv,$(RUN),requirements/run.txt)

$(PEERS)/.stamp: requirements/peers.txt
	$(call make_venv,$(PEERS),requirements/peers.txt)

$(PLOTS)/.stamp: requirements/plots.txt
	$(call make_venv,$(PLOTS),requirements/plots.txt)

# No package of it needs its install script: what is compiled comes with the package.
$(JS)/node_modules/.stamp: $(JS)/package-lock.json $(JS)/.npmrc
	bash .ci/node
	cd $(JS) && npm ci --silent
	@touch $@

$(OLDEST)/.stamp: requirements/oldest.txt
	$(call make_venv,$(OLDEST),requirements/oldest.txt)

$(RELEASE)/.stamp: requirements/release.txt
	$(call make_venv,$(RELEASE),requirements/release.txt)

$(FUZZ)/.stamp: requirements/fuzz.txt
	$(call make_venv,$(FUZZ),requirements/fuzz.txt)

$(MUTATION)/.stamp: requirements/mutation.txt
	$(call make_venv,$(MUTATION),requirements/mutation.txt)

# Every target first makes the machine ready (scripts/bootstrap); that takes no time when nothing is missing.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help bootstrap binaries demo stories life-cycle test browser full lint coverage fmt bench scale chaos simulate fuzz conformance images sbom release docs audit clean clean-cache

# Groups of tests (tests/conftest.py) run side by side, more than there are CPUs: most wait. WORKERS=0 runs them one after the other in this process.
WORKERS ?= 3

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

bootstrap:  ## Install what is missing on this machine, make .venv
	@scripts/bootstrap

binaries: bootstrap  ## Find or build etcd, Kubernetes, containerd and the other real programs; KUBERNETES=1.30: another version
	@.venv/bin/python -m spiderpool_lab.binaries test

demo: bootstrap  ## Play the walkthrough of Alibaba Cloud and check it; NODES=fast, POOLS=manual, PROXY=ipvs, KUBERNETES=1.30: variants; KEEP=1 leaves it up
	@.venv/bin/python -m spiderpool_lab.binaries $(if $(filter fast,$(NODES)),fast,demo)
	@$(if $(filter fast,$(NODES)),,.venv/bin/python -m spiderpool_lab.images >/dev/null && .venv/bin/python -m spiderpool_lab.product --cached >/dev/null)
	@.venv/bin/spiderpool-lab demo $(if $(filter 1,$(KEEP)),--keep) $(if $(NODES),--nodes $(NODES)) $(if $(POOLS),--pools $(POOLS)) $(if $(PROXY),--proxy-mode $(PROXY))

stories: binaries  ## Play what happens to pods, nodes and daemons; NODES=real, WRITE=1: docs/reference/stories.md, LONG=1, ARGS=names
	@.venv/bin/spiderpool-lab stories $(if $(NODES),--nodes $(NODES)) $(if $(filter 1,$(WRITE)),--write) $(if $(filter 1,$(LONG)),--long) $(ARGS)

life-cycle: binaries  ## Update, roll back, remove and install the chart, replace nodes and restore the store while a client counts what is lost; WRITE=1: docs/reference/life-cycle.md, ARGS=names
	@.venv/bin/python -m spiderpool_lab.product --cached >/dev/null
	@exec .venv/bin/spiderpool-lab life-cycle $(if $(filter 1,$(WRITE)),--write) $(ARGS)

test: binaries  ## Run every test but those marked full (ARGS=--full: those too); ARGS='-k name -x' are passed to pytest
	@.venv/bin/python -m spiderpool_lab.images >/dev/null
	@.venv/bin/python -m spiderpool_lab.product --cached >/dev/null
	@exec .venv/bin/pytest --numprocesses $(WORKERS) --dist loadscope $(ARGS)

browser: bootstrap  ## Run the tests of spiderpoolctl's page in a real Chromium; WRITE=1 also writes the screenshots of docs/usage/ui.md
	@uv=$$(scripts/bootstrap uv) && "$$uv" sync --frozen --quiet --inexact --no-build-isolation --group browser
	@WRITE=$(WRITE) exec .venv/bin/pytest --full -m browser tests/cli/ui $(ARGS)

full: bootstrap  ## Run all that takes hours: every test, the stories on both kinds of nodes, Kubernetes' own tests; writes their pages in docs/
	@.venv/bin/python -m spiderpool_lab.binaries conformance >/dev/null
	@failed=0; \
	for part in 'test ARGS=--full' browser 'stories NODES=fast WRITE=1' 'stories NODES=real WRITE=1' 'life-cycle WRITE=1' conformance 'conformance KUBERNETES=1.30'; do \
	    $(MAKE) --no-print-directory $$part || failed=1; \
	done; exit $$failed

lint: bootstrap  ## Check style, types and import order
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	@scripts/mypy_cache restore
	.venv/bin/mypy
	@scripts/mypy_cache save
	.venv/bin/lint-imports

coverage: bootstrap  ## Check that the own tests of each file of core/ and api/ run every line of it
	@exec .venv/bin/python -m scripts.coverage $(ARGS)

fmt: bootstrap  ## Rewrite the code in our style
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

bench: binaries  ## Measure address management against the limit of the API server; ARGS=--help shows the options
	@exec .venv/bin/python -m bench.ipam $(ARGS)

scale: bootstrap  ## Measure the leaders of a large cluster: blocking of the event loop and time to begin; ARGS="--nodes 1000 --addresses 30000"
	@exec .venv/bin/python -m bench.scale $(ARGS)

chaos: binaries  ## Kill agents, controller and API server at random while pods come and go; ARGS='--seconds 30 --pods 80'
	@exec .venv/bin/python -m bench.chaos $(ARGS)

# nice: it uses all cores. --seed repeats a run, which depends on nothing but its seed and the code.
simulate: bootstrap  ## Run agents and controllers in simulation: OPERATIONS=1000000, SEED=7 repeats a run, TEETH=1 puts faults back, GUARDS=1 takes guards out, ARGS=--help shows the options
	@exec nice -n 19 .venv/bin/python -m tests.simulation$(if $(TEETH),.teeth)$(if $(GUARDS),.guards) $(if $(SEED),--seed $(SEED)) $(if $(OPERATIONS),--operations $(OPERATIONS)) $(if $(PER_RUN),--per-run $(PER_RUN)) $(ARGS)

# The agent's endpoint is the one target that needs an API server.
fuzz: $(if $(or $(REPEAT),$(and $(TARGETS),$(filter-out $(TARGETS),agent))),bootstrap,binaries)  ## Fuzz all that comes from outside, for a minute; TIME=3600, TARGETS='cni netlink', SEED=7, REPEAT=file of a finding
	@exec nice -n 19 .venv/bin/python -m tests.fuzzing $(TARGETS) $(if $(TIME),--time $(TIME)) $(if $(SEED),--seed $(SEED)) $(if $(REPEAT),--repeat $(REPEAT))

conformance: bootstrap  ## Run Kubernetes' own tests of a network on real nodes; FOCUS='DNS', KUBERNETES=1.30, ARGS=--help shows the options
	@.venv/bin/python -m spiderpool_lab.binaries conformance >/dev/null
	@.venv/bin/python -m spiderpool_lab.product --cached >/dev/null
	@exec .venv/bin/python -m spiderpool_lab.conformance $(if $(FOCUS),--focus '$(FOCUS)') $(ARGS)

images: bootstrap  ## Build the images of the product for amd64 and arm64 under dist/images, with bills of materials; ARGS=--help shows the options
	@exec .venv/bin/python -m spiderpool_lab.product $(ARGS)

sbom: bootstrap  ## Write dist/sbom.json: what the product consists of, with versions and hashes, as CycloneDX 1.5
	@exec .venv/bin/python -m spiderpool_lab.product.sbom

release: bootstrap  ## Build all of a version under dist/release: packages, chart, images, bills of materials, SHA256SUMS; ARGS='--without-images', ALLOW_DIRTY=1
	@exec .venv/bin/python -m spiderpool_lab.product.release $(ARGS)

docs: bootstrap  ## Make the site of the documentation in dist/docs, in English and Chinese, with a search; every link is followed
	@uv=$$(scripts/bootstrap uv) && UV_PROJECT_ENVIRONMENT=.venv-docs UV_PYTHON_DOWNLOADS=never "$$uv" sync --frozen --quiet --only-group docs --python .venv/bin/python
	@exec .venv-docs/bin/python -m scripts.build_docs

audit:  ## Compare uv.lock with known vulnerabilities; needs the service of OSV; ARGS='--service-url URL': a mirror of it
	@uv=$$(scripts/bootstrap uv) && "$$uv" audit --frozen --preview-features audit-command $(ARGS)

clean:  ## Remove what the targets made here; the cache under ~/.cache/spiderpool stays
	rm -rf .venv .venv-docs dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .fuzzing
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/spiderpool
clean-cache:  ## Remove our cache: uv, built programs, Go modules and compiled packages; the next target builds anew
	[ ! -d $(CACHE)/go ] || chmod -R u+w $(CACHE)/go
	rm -rf $(CACHE)

# Two commands: `make run` starts everything on this machine, `make test` installs everything and runs everything.
.DEFAULT_GOAL := help
.PHONY: help run demo test lint unit constraints bench-path bench-runner bench-obfuscation torture-promotion clean

help:
	@echo 'make run         gateway and monitor on this machine, with a demo model; Ctrl-C stops both'
	@echo 'make demo        watches a drift arrive, ring and clear, in a temporary folder (about 2 minutes)'
	@echo 'make test        installs everything and runs every check and test'
	@echo 'make bench-path  images per second through the whole path against the bare engine'
	@echo 'make bench-runner  the detector in each precision against Ultralytics; cold start, memory'
	@echo 'make bench-obfuscation  what obfuscating a model changes (nothing) and costs'
	@echo 'make torture-promotion  promotes and rolls back 20 times under load; no request may fail'
	@echo 'make clean       removes .venv and caches; keys, samples and certificates stay'

run:
	@since=$$(date +%s) && scripts/install.sh reports && exec .venv/bin/gateway dev --since $$since

demo:
	@scripts/install.sh reports
	@.venv/bin/python examples/conveyor/demo.py

test:
	@scripts/install.sh reports seal postgres onnxruntime pkcs11 dev
	@scripts/softhsm.sh
	@$(MAKE) --no-print-directory lint unit

lint:
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

unit:
	.venv/bin/python -m pytest $(PYTEST_ARGS)

bench-path:
	@scripts/install.sh reports seal postgres onnxruntime pkcs11 dev
	@.venv/bin/python benchmarks/path.py

bench-runner:
	@scripts/install.sh reports seal postgres onnxruntime pkcs11 dev
	@.venv/bin/python benchmarks/runner.py

bench-obfuscation:
	@scripts/install.sh reports seal postgres onnxruntime pkcs11 dev
	@.venv/bin/python benchmarks/obfuscation.py

torture-promotion:
	@scripts/install.sh reports seal postgres onnxruntime pkcs11 dev
	@.venv/bin/python benchmarks/promotion.py

constraints:
	uv pip compile --universal -q --no-header --no-annotate --python-version 3.11 pyproject.toml \
		--all-extras --group dev -c constraints.txt -o constraints.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Two commands: `make run` starts everything on this machine, `make test` installs everything and runs everything.
.DEFAULT_GOAL := help
.PHONY: help run demo test lint unit constraints openapi clean bench-audit bench-auth bench-drift bench-export bench-path bench-runner bench-security bench-obfuscation \
	tamper-audit torture-audit torture-edge torture-images torture-promotion torture-tls installed

EVERYTHING = reports seal postgres onnxruntime pkcs11 redis dev

help:
	@echo 'make run         gateway and monitor on this machine, with a demo model; Ctrl-C stops both'
	@echo 'make demo        watches a drift arrive, ring and clear, in a temporary folder (about 2 minutes)'
	@echo 'make test        installs everything and runs every check and test'
	@echo 'make bench-audit  what appending to the ledger, verifying and proving cost'
	@echo 'make bench-auth  what authentication, authorisation and limits add to a request'
	@echo 'make bench-drift  false alarms, power and delay of the drift alarm on real images; its costs'
	@echo 'make bench-export  exporting a million records, and that its memory is bounded'
	@echo 'make bench-path  images per second through the whole path against the bare engine'
	@echo 'make bench-runner  the detector in each precision against Ultralytics; cold start, memory'
	@echo 'make bench-security  what the rules on suspicious behaviour cost'
	@echo 'make bench-obfuscation  what obfuscating a model changes (nothing) and costs'
	@echo 'make tamper-audit  10,000 tampers with ledgers; each must be seen, and its first bad record named'
	@echo 'make torture-audit  kills, power cuts and failing storage under the ledger; nothing may be lost'
	@echo 'make torture-promotion  promotes and rolls back 20 times under load; no request may fail'
	@echo 'make torture-edge  slow and hostile connections beside a good client'
	@echo 'make torture-images  hostile images against a gateway'
	@echo 'make torture-tls   sslyze and testssl.sh against the default configuration'
	@echo 'make openapi     writes docs/openapi.json anew'
	@echo 'make clean       removes .venv and caches; keys, samples and certificates stay'

run:
	@since=$$(date +%s) && scripts/install.sh reports && exec .venv/bin/gateway dev --since $$since

demo:
	@scripts/install.sh reports
	@.venv/bin/python examples/conveyor/demo.py

installed:
	@scripts/install.sh $(EVERYTHING)

test: installed
	@scripts/softhsm.sh
	@scripts/redis.sh
	@scripts/oidc_provider.sh
	@$(MAKE) --no-print-directory lint unit

lint:
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

unit:
	@scripts/unit.sh $(PYTEST_ARGS)

bench-audit: installed
	@.venv/bin/python benchmarks/audit.py

bench-auth: installed
	@.venv/bin/python benchmarks/authentication.py

bench-drift: installed
	@.venv/bin/python benchmarks/drift.py

bench-export: installed
	@.venv/bin/python benchmarks/export.py

bench-path: installed
	@.venv/bin/python benchmarks/path.py

bench-runner: installed
	@.venv/bin/python benchmarks/runner.py

bench-security: installed
	@.venv/bin/python benchmarks/security.py

bench-obfuscation: installed
	@.venv/bin/python benchmarks/obfuscation.py

tamper-audit: installed
	@.venv/bin/python benchmarks/tamper.py

torture-audit: installed
	@.venv/bin/python benchmarks/audit_torture.py

torture-promotion: installed
	@.venv/bin/python benchmarks/promotion.py

torture-edge: installed
	@.venv/bin/python benchmarks/edge.py

torture-images: installed
	@.venv/bin/python benchmarks/images.py

torture-tls:
	@scripts/install.sh reports
	@.venv/bin/python benchmarks/tls_scan.py

openapi:
	.venv/bin/python -m gateway.api.write_openapi > docs/openapi.json.new && mv docs/openapi.json.new docs/openapi.json

constraints:
	uv pip compile --universal -q --no-header --no-annotate --python-version 3.11 pyproject.toml \
		--all-extras --group dev -c constraints.txt -o constraints.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

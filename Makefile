# Targets: setup test demo check arm64 check-arm64 check-arm64-sanitizers check-arm64-clang gate-arm64 record-arm64 wheel-arm64
#          check-asan check-ubsan check-tsan check-sanitizers fuzz-open ext lib mcc-run lint bench bench-arm64 calibration deps clean
#
#   make check                                   the C kernel checker, seed from the clock; make check seed=7 family=gemm
#   make lib CC=... CFLAGS=... out=build/phone   the engine for another machine
#   make check FAMILIES="gemm conv"              only these kernel families (a subset build; ops of the others are absent)

out     ?= build/host
CC      ?= cc
CFLAGS  ?= -O3 -g -fno-asynchronous-unwind-tables
LDFLAGS ?=
STRIP   ?= $(if $(filter Linux,$(shell uname -s)),-s)
RUN     ?=
PYTHON  ?= python3
VENV    ?= .venv
seed    ?=
family  ?=
jobs    ?= 2
PIP_FLAGS ?=

FAMILIES ?= $(filter-out core,$(patsubst kernels/%/,%,$(wildcard kernels/*/)))
SUBSET    = $(if $(filter-out undefined file,$(origin FAMILIES)),-DMCC_SUBSET)

# -ffp-contract=off: integer epilogues must round the same on every target.
FLAGS = -std=c11 -fPIC -fvisibility=hidden -ffp-contract=off -pthread -Wall -Wextra $(WERROR) $(CFLAGS) $(SUBSET)

py  = $(VENV)/bin/python
src = $(wildcard $(foreach f,core $(FAMILIES),kernels/$(f)/*.c))
obj = $(src:%.c=$(out)/obj/%.o)
check_src = $(wildcard tests/kernels/check.c tests/kernels/build.c \
              $(if $(SUBSET),$(foreach f,core $(FAMILIES),tests/kernels/check_$(f).c),tests/kernels/check_*.c))
check_obj = $(check_src:%.c=$(out)/obj/%.o)

# Every product is made under a name of its own and renamed, so that two makes at once do no harm.
compile = mkdir -p $(@D) && $(CC) $(FLAGS) $(1) -MMD -MP -MT $@ -MF $@.$$$$.d -c $< -o $@.$$$$ && mv -f $@.$$$$.d $(@:.o=.d) && mv -f $@.$$$$ $@

.PHONY: default setup test demo check arm64 check-arm64 check-arm64-sanitizers check-arm64-clang arm64-asan arm64-ubsan gate-arm64 record-arm64 \
        wheel-arm64 check-asan check-ubsan check-tsan check-sanitizers fuzz-open ext lib mcc-run lint bench bench-arm64 \
        calibration deps clean FORCE
default: lib mcc-run

# --- the engine ------------------------------------------------------------------------------------

# Objects depend on the flags that they were made with.
$(out)/flags: FORCE
	@mkdir -p $(@D); echo '$(CC) $(FLAGS)' | cmp -s - $@ || echo '$(CC) $(FLAGS)' > $@

$(out)/obj/%.o: %.c $(out)/flags
	@echo "cc $<"
	@$(call compile)

no_undefined = $(if $(filter Linux,$(shell uname -s)),-Wl$(comma)-z$(comma)defs)
comma = ,
lib: $(out)/libmcc.a $(out)/libmcc.so
$(out)/libmcc.a: $(obj)
	@rm -f $@.tmp; $(AR) rcs $@.tmp $(obj) && mv -f $@.tmp $@
$(out)/libmcc.so: $(obj)
	@$(CC) $(FLAGS) -shared $(STRIP) $(no_undefined) $(LDFLAGS) $(obj) -o $@.$$$$ -lm -pthread && mv -f $@.$$$$ $@

mcc-run: $(out)/mcc-run
$(out)/mcc-run: $(obj) $(out)/obj/kernels/mcc_run.o
	@$(CC) $(FLAGS) $(LDFLAGS) $^ -o $@.$$$$ -lm -pthread && mv -f $@.$$$$ $@

$(out)/mcc-check: $(obj) $(check_obj)
	@$(CC) $(FLAGS) $(LDFLAGS) $^ -o $@.$$$$ -lm -pthread && mv -f $@.$$$$ $@
check: $(out)/mcc-check
	$(RUN) $(out)/mcc-check $(if $(family),$(or $(seed),1) $(family),$(seed))

# --- the Python extension --------------------------------------------------------------------------

ext: kernels/_core.abi3.so
ifneq ($(filter ext setup test demo bench bench-arm64 lint %/_core.abi3.so,$(MAKECMDGOALS)),)
py_include = $(shell $(py) -c 'import sysconfig; print(sysconfig.get_path("include"))')
endif
$(out)/obj/kernels/_core.o: kernels/_core.c $(out)/flags
	@echo "cc $<"
	@$(call compile,-DPy_LIMITED_API=0x030A0000 -I$(py_include))
# After libmcc.so, which cannot be linked while a symbol is missing: a working extension is never replaced by a broken one.
kernels/_core.abi3.so $(out)/_core.abi3.so: $(obj) $(out)/obj/kernels/_core.o $(out)/libmcc.so
	@$(CC) $(FLAGS) -shared $(STRIP) $(LDFLAGS) $(filter %.o,$^) -o $@.$$$$ -lm -pthread && mv -f $@.$$$$ $@

# --- sanitizers and arm64: the same checker, built another way -----------------------------------------

sanitize = $(MAKE) --no-print-directory check out=build/$(1) CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=$(2)" LDFLAGS="-fsanitize=$(2)"
check-asan:
	$(call sanitize,asan,address)
check-ubsan:
	$(call sanitize,ubsan,undefined -fno-sanitize-recover=all)
check-tsan:
	$(call sanitize,tsan,thread)

# The quick round that CI makes: all families under address and undefined, those whose checks start threads under thread.
round = $(MAKE) --no-print-directory -j$(jobs) check out=build/sanitize-$(1) LDFLAGS="-fsanitize=$(2)" $(3) \
        CFLAGS="-O1 -g1 -fno-omit-frame-pointer -fno-sanitize-recover=all -fsanitize=$(2)"
check-sanitizers:
	@mkdir -p build; for s in address,undefined thread; do \
	   echo 'int main(void) { return 0; }' | $(CC) -x c - -fsanitize=$$s -o build/sanitize-try 2>/dev/null && build/sanitize-try || \
	   { echo "skip check-sanitizers: $(CC) cannot build and run with -fsanitize=$$s"; test "$(CI)" != true; exit; }; done; \
	$(call round,address,address$(comma)undefined) && $(call round,thread,thread,FAMILIES="gemm conv dwconv eltwise" family="core conv")

# Damaged files: tests/unit/test_fuzz_file.py makes the seeds and runs it.
fuzz_flags = out=build/fuzz CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all" \
             LDFLAGS="-fsanitize=address,undefined"
fuzz-open:
	@$(MAKE) --no-print-directory -j$(jobs) build/fuzz/fuzz-open $(fuzz_flags)
$(out)/fuzz-open: $(obj) $(out)/obj/tests/fuzz/fuzz_open.o $(out)/obj/tests/kernels/build.o
	@$(CC) $(FLAGS) $(LDFLAGS) $^ -o $@.$$$$ -lm -pthread && mv -f $@.$$$$ $@

# Three tiers of dispatch: plain NEON, dot product, everything but SVE and SME.
ARM64_CPUS ?= cortex-a53 cortex-a76 max,sve=off,sme=off
CC_arm64   ?= aarch64-linux-gnu-gcc
QEMU       ?= qemu-aarch64
arm64_missing = $(strip $(foreach tool,$(CC_arm64) $(QEMU),$(if $(shell command -v $(tool)),,$(tool))))
# The engine, its runner and the checker as static programs.
arm64:
	$(MAKE) --no-print-directory -j$(jobs) out=build/arm64 CC="$(CC_arm64)" LDFLAGS=-static build/arm64/libmcc.a mcc-run build/arm64/mcc-check

check-arm64:
ifneq ($(arm64_missing),)
	@echo "skip check-arm64: $(arm64_missing) not found; see make deps"
	@test "$(CI)" != true
else
	$(MAKE) --no-print-directory build/arm64/mcc-check out=build/arm64 CC="$(CC_arm64)" LDFLAGS=-static
	@for cpu in $(ARM64_CPUS); do echo "-cpu $$cpu"; $(QEMU) -cpu $$cpu build/arm64/mcc-check $(or $(seed),1) $(family) || exit 1; done
	@if [ "$(CI)" = true ]; then $(MAKE) --no-print-directory check-arm64-sanitizers check-arm64-clang; \
	 else echo "skip check-arm64-sanitizers and check-arm64-clang: run when CI=true, or by their names"; fi
endif

# On the widest core, which checks the kernels of every tier. gcc has no wholly static AddressSanitizer, so that program takes the
# cross compiler's C library; leaks cannot be looked for under emulation (LeakSanitizer wants ptrace). -O1 as above, not -O3.
arm64_libc = $(abspath $(dir $(shell $(CC_arm64) -print-file-name=libc.so.6))/..)
arm64_round = mkdir -p build/$(1); echo 'int main(void) { return 0; }' | $(CC_arm64) -x c - -fsanitize=$(2) $(3) -o build/$(1)/try || \
              { echo "skip $(1): $(CC_arm64) cannot build with -fsanitize=$(2); see make deps"; test "$(CI)" != true; exit; }; \
              $(MAKE) --no-print-directory build/$(1)/mcc-check out=build/$(1) CC="$(CC_arm64)" LDFLAGS="-fsanitize=$(2) $(3)" \
                      CFLAGS="-O1 -g1 -fno-omit-frame-pointer -fno-sanitize-recover=all -fsanitize=$(2)" && \
              ASAN_OPTIONS=detect_leaks=0 $(QEMU) -L $(arm64_libc) -cpu $(lastword $(ARM64_CPUS)) build/$(1)/mcc-check $(or $(seed),1) $(family)
check-arm64-sanitizers:
ifneq ($(arm64_missing),)
	@echo "skip check-arm64-sanitizers: $(arm64_missing) not found; see make deps"
	@test "$(CI)" != true
else
	@$(MAKE) --no-print-directory --output-sync=recurse -j$(jobs) arm64-asan arm64-ubsan
endif
arm64-asan:
	+@echo "AddressSanitizer, -cpu $(lastword $(ARM64_CPUS))"; $(call arm64_round,$@,address,-static-libasan)
arm64-ubsan:
	+@echo "UndefinedBehaviorSanitizer, -cpu $(lastword $(ARM64_CPUS))"; $(call arm64_round,$@,undefined,-static)

# The same kernels from another compiler, on the widest core.
check-arm64-clang:
	@if ! command -v clang >/dev/null; then echo "skip check-arm64-clang: clang not found; see make deps"; test "$(CI)" != true; exit; fi; \
	 clang --version | head -1; $(MAKE) --no-print-directory -j$(jobs) build/arm64-clang/mcc-check out=build/arm64-clang \
	     CC="clang --target=aarch64-linux-gnu" LDFLAGS=-static && \
	 $(QEMU) -cpu $(lastword $(ARM64_CPUS)) build/arm64-clang/mcc-check $(or $(seed),1) $(family)

# The Python extension in a wheel for arm64, tagged by the newest version of glibc that its symbols ask for. Debian's Python.h
# wants the configuration of the machine it compiles for; for the limited API this machine's says the same.
wheel-arm64: setup
	@command -v $(CC_arm64) >/dev/null || { echo "wheel-arm64: $(CC_arm64) not found; see make deps"; exit 4; }
	@mkdir -p build/arm64/include/aarch64-linux-gnu build/wheel-arm64; rm -rf build/wheel-arm64/*.whl build/lib.linux-aarch64*
	@headers=$$($(py) -c 'import sysconfig; print(sysconfig.get_path("include"))'); name=$${headers##*/}; \
	own=$${headers%/*}/$$($(CC) -print-multiarch)/$$name; test ! -e $$own/pyconfig.h || headers=$$own; \
	ln -sfn $$headers build/arm64/include/aarch64-linux-gnu/$$name
	@CPATH=build/arm64/include $(MAKE) --no-print-directory -j$(jobs) build/arm64/_core.abi3.so out=build/arm64 CC="$(CC_arm64)"
	@MCC_EXTENSION=$(abspath build/arm64/_core.abi3.so) _PYTHON_HOST_PLATFORM=linux-aarch64 \
	$(py) -m pip wheel -q --no-deps --no-build-isolation --no-cache-dir --wheel-dir build/wheel-arm64 .
	@libc=$$($(py) -c 'import re; print(max(int(v) for v in re.findall(rb"GLIBC_2\.(\d+)", open("build/arm64/_core.abi3.so", "rb").read())))'); \
	cd build/wheel-arm64 && $(abspath $(py)) -m wheel tags --remove --platform-tag manylinux_2_$${libc}_aarch64 *.whl

# Instructions of layers and networks against those on record; record-arm64 writes them down anew.
gate-arm64 record-arm64: setup
	OMP_NUM_THREADS=1 $(py) tests/bench/arm64_gate.py $(if $(filter record-arm64,$@),--record)

# --- Python: environment, tests ------------------------------------------------------------------------

# torch first and by itself, so that no other package chooses its build. The engine is built by make, not by pip.
$(VENV)/.installed: setup.cfg setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "mcc needs Python 3.10 or newer; say which one: make setup PYTHON=python3.12"; exit 1; }
	@test -x $(py) || $(PYTHON) -m venv $(VENV)
	$(py) -m pip install -q --upgrade pip setuptools wheel
	$(py) -m pip install -q $(PIP_FLAGS) -c constraints.txt torch
	MCC_NO_EXTENSION=1 $(py) -m pip install -q $(PIP_FLAGS) -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

setup: $(VENV)/.installed
	@$(MAKE) --no-print-directory -j$(jobs) ext

test: setup
	@$(MAKE) --no-print-directory -j$(jobs) $(out)/mcc-check && $(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory -j$(jobs) check-arm64
	@$(MAKE) --no-print-directory gate-arm64
	@if [ "$(CI)" = true ]; then $(MAKE) --no-print-directory check-sanitizers; \
	 else echo "skip check-sanitizers: runs when CI=true, or by its name"; fi
	OMP_NUM_THREADS=1 $(py) -m pytest -n $(jobs) $(PYTEST_FLAGS)

demo: setup
	$(VENV)/bin/mcc compress configs/lenet5-fashion.yaml --output build/demo

# The peers live in environments of their own, each made once for its list of pinned versions (--no-deps where that list is
# whole; see tests/bench/peers.txt). One that cannot be made is left out, and the table says so.
#   make bench BENCH_FLAGS="--networks mobilenet_v2 --precisions fp32 --threads 1"     two minutes instead of half an hour
PEERS = build/peers build/peers-litert build/peers-executorch
$(PEERS:%=%/.installed): build/%/.installed: tests/bench/%.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q $(PIP_FLAGS) $(if $(filter build/peers/.installed,$@),--no-deps) -r $< && touch $@ || \
	    { echo "$(@D) cannot be made: what needs it is left out"; rm -rf $(@D)/bin/python; }

bench: setup $(PEERS:%=%/.installed)
	@$(MAKE) --no-print-directory -j$(jobs) mcc-run
	$(py) tests/bench/compare.py $(BENCH_FLAGS)

# The same by counted instructions under emulation, for arm64: its peers run in an arm64 Python that build/arm64-python/ gets.
#   make bench-arm64 BENCH_FLAGS="--networks mobilenet_v2 --precisions int8 --cores arm64-cortex-a76"
bench-arm64: setup build/peers/.installed build/peers-litert/.installed
	OMP_NUM_THREADS=1 $(py) tests/bench/arm64_compare.py $(BENCH_FLAGS)

# What is estimated for arm64 against published times of ncnn; about an hour of counting, which is kept.
calibration: setup build/peers/.installed
	OMP_NUM_THREADS=1 $(py) tests/bench/calibration.py $(BENCH_FLAGS)

lint: setup
	$(py) -m ruff check cli passes kernels tests setup.py
	@mkdir -p build/types/mcc; for d in cli passes kernels; do ln -sfn ../../../$$d build/types/mcc/$$d; done
	cd build/types && $(abspath $(py)) -m mypy --config-file ../../setup.cfg mcc
	@$(call strict,lint,$(CC))
	@if command -v clang >/dev/null; then $(call strict,lint-clang,clang); else echo "skip clang: not found"; fi
	@if command -v $(CC_arm64) >/dev/null; then $(call strict,lint-arm64,$(CC_arm64)); else echo "skip $(CC_arm64): not found"; fi
strict = $(MAKE) --no-print-directory -j$(jobs) out=build/$(1) CC=$(2) WERROR=-Werror lib mcc-run build/$(1)/mcc-check

DEPS = gcc g++ libc6-dev make cmake openssh-client openssh-server python3-dev python3-venv gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user \
       llvm-22 clang mmdebstrap arch-test
deps:
	@if ! command -v apt-get >/dev/null; then \
	   for tool in cc make $(PYTHON) $(CC_arm64) $(QEMU); do command -v $$tool >/dev/null || echo "missing: $$tool"; done; \
	   echo "install what is missing with your package manager (Debian's names: $(DEPS))"; exit 0; fi; \
	 missing=$$(for p in $(DEPS); do dpkg -s $$p 2>/dev/null | grep -q '^Status: .* installed' || echo $$p; done); \
	 if [ -z "$$missing" ]; then echo "all system packages are there"; \
	 elif [ "$$(id -u)" = 0 ]; then apt-get update -q && apt-get install -y --no-install-recommends \
	        $$(for p in $$missing; do if apt-cache show $$p >/dev/null 2>&1; then echo $$p; else echo "no $$p in the repositories of this system" >&2; fi; done); \
	 else echo "missing; as root: apt-get install -y --no-install-recommends" $$missing; fi

clean:
	rm -rf build kernels/_core*.so

-include $(wildcard $(out)/obj/kernels/*.d $(out)/obj/kernels/*/*.d $(out)/obj/tests/*/*.d)

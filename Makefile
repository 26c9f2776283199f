# Targets: setup test demo check check-arm64 check-asan check-ubsan check-tsan fuzz ext lib mcc-run lint bench deps clean
#
#   make check                                   the C kernel checker, seed from the clock; make check seed=7 family=gemm
#   make lib CC=... CFLAGS=... out=build/phone   the engine for another machine
#   make check FAMILIES="gemm conv"              only these kernel families (a subset build; ops of the others are absent)

out     ?= build/host
CC      ?= cc
CFLAGS  ?= -O3 -g
LDFLAGS ?=
RUN     ?=
PYTHON  ?= python3
VENV    ?= .venv
seed    ?=
family  ?=
jobs    ?= 2

FAMILIES ?= $(filter-out core,$(patsubst kernels/%/,%,$(wildcard kernels/*/)))
SUBSET    = $(if $(filter-out undefined file,$(origin FAMILIES)),-DMCC_SUBSET)

# -ffp-contract=off: integer epilogues must round the same on every target.
FLAGS = -std=c11 -fPIC -fvisibility=hidden -ffp-contract=off -pthread -Wall -Wextra $(WERROR) $(CFLAGS) $(SUBSET)

py  = $(VENV)/bin/python
src = $(wildcard $(foreach f,core $(FAMILIES),kernels/$(f)/*.c))
obj = $(src:%.c=$(out)/obj/%.o)
check_src = tests/kernels/check.c tests/kernels/build.c $(wildcard $(foreach f,core $(FAMILIES),tests/kernels/check_$(f).c))
check_obj = $(check_src:%.c=$(out)/obj/%.o)

# Every product is made under a name of its own and renamed, so that two makes at once do no harm.
compile = mkdir -p $(@D) && $(CC) $(FLAGS) $(1) -MMD -MP -MT $@ -MF $@.$$$$.d -c $< -o $@.$$$$ && mv -f $@.$$$$.d $(@:.o=.d) && mv -f $@.$$$$ $@

.PHONY: default setup test demo check check-arm64 check-asan check-ubsan check-tsan fuzz ext lib mcc-run lint bench deps clean FORCE
default: lib mcc-run

# --- the engine ------------------------------------------------------------------------------------

# Objects depend on the flags that they were made with.
$(out)/flags: FORCE
	@mkdir -p $(@D); echo '$(CC) $(FLAGS)' | cmp -s - $@ || echo '$(CC) $(FLAGS)' > $@

$(out)/obj/%.o: %.c $(out)/flags
	@echo "cc $<"
	@$(call compile)

lib: $(out)/libmcc.a $(out)/libmcc.so
$(out)/libmcc.a: $(obj)
	@rm -f $@.tmp; $(AR) rcs $@.tmp $(obj) && mv -f $@.tmp $@
$(out)/libmcc.so: $(obj)
	@$(CC) $(FLAGS) -shared $(LDFLAGS) $(obj) -o $@.$$$$ -lm -pthread && mv -f $@.$$$$ $@

mcc-run: $(out)/mcc-run
$(out)/mcc-run: $(obj) $(out)/obj/kernels/mcc_run.o
	@$(CC) $(FLAGS) $(LDFLAGS) $^ -o $@.$$$$ -lm -pthread && mv -f $@.$$$$ $@

$(out)/mcc-check: $(obj) $(check_obj)
	@$(CC) $(FLAGS) $(LDFLAGS) $^ -o $@.$$$$ -lm -pthread && mv -f $@.$$$$ $@
check: $(out)/mcc-check
	$(RUN) $(out)/mcc-check $(if $(family),$(or $(seed),1) $(family),$(seed))

# --- the Python extension --------------------------------------------------------------------------

ext: kernels/_core.abi3.so
ifneq ($(filter ext setup test demo bench fuzz,$(MAKECMDGOALS)),)
py_include := $(shell $(py) -c 'import sysconfig; print(sysconfig.get_path("include"))' 2>/dev/null)
endif
$(out)/obj/kernels/_core.o: kernels/_core.c $(out)/flags
	@echo "cc $<"
	@$(call compile,-DPy_LIMITED_API=0x030A0000 -I$(py_include))
kernels/_core.abi3.so: $(obj) $(out)/obj/kernels/_core.o
	@$(CC) $(FLAGS) -shared $(LDFLAGS) $^ -o $@.$$$$ -lm -pthread && mv -f $@.$$$$ $@

-include $(wildcard $(out)/obj/kernels/*.d $(out)/obj/kernels/*/*.d $(out)/obj/tests/*/*.d)

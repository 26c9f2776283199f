"""arm64 from any machine: build for it, count instructions under emulation, estimate cycles of named cores."""

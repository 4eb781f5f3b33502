"""The lab's pages: read widgets, build a configuration, call `distill_core`, draw."""

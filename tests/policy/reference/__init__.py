"""An independent evaluator of network policy, written from the documented semantics, for reading."""

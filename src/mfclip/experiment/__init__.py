"""The paper's experiments as one command each: run a protocol's cells, report, draw."""

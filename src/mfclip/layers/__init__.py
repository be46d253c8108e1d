"""Generic blocks without a meaning of their own in the paper."""

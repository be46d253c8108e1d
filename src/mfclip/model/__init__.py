"""The boxes of the paper's figure, one a file."""

"""Published methods to compare with: one self-contained file each."""

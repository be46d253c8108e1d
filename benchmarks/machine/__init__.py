"""Speed of this machine with this software: timing, rooflines, and what is measured with them."""

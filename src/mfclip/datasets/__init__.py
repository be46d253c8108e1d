"""Tools over manifests and the data sets they come from: scan, split, prepare, audit, show."""

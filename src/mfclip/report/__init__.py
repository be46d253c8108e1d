"""Results as people read them: page, PDF, annotated media, JSON."""

"""The web page and the REST interface: one process, one model, requests judged together."""

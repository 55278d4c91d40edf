"""The HTTP server, see `docs/serving_http.md`."""

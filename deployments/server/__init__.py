"""An OpenAI-compatible HTTP server on our own engine."""

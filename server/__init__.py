"""The control side: web pages, REST API, storage and the supervisor that keeps one process per bot."""

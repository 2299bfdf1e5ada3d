"""The REST API, one module per resource. A view parses, calls one service of `server.storage`, and answers."""

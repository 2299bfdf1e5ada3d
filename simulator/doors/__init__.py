"""The ways in: REST, websocket API and market streams, and what every call has to pass."""

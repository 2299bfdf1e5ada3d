"""Market data: streams, gaps and history. Knows no strategies."""

"""Markets: trades and candles, where they come from, and the clock they run by."""

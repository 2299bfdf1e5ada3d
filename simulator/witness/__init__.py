"""The witness: proves from a ledger alone that the exchange made no coin and lost none."""

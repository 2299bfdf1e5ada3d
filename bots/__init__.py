"""The bot process: the trading core, its strategies, and the shells that connect them to an exchange."""

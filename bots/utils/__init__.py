"""What the bot's shells share: config loading, logging, and the check of a model file."""

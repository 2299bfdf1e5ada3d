"""Who may do what: passwords, tokens, roles, and the encryption of secrets at rest."""

"""The exchange itself, pure: rules, accounts, orders, the book, and the decisions that change them."""

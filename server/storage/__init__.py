"""The database: tables, migrations, and the one place that writes what bots report."""

"""The exchange port and its adapters. Knows no strategies and no database."""

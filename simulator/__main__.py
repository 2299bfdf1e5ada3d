"""Entry point of ``python -m simulator``."""

from simulator.app import main
from simulator.witness.command import check

main.add_command(check)

if __name__ == "__main__":
    main()

"""`python -m varphi` is the command `varphi`."""

from varphi.cli import main

if __name__ == "__main__":
    main()

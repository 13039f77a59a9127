"""`python -m remediate` is `remediate`."""

from remediate.cli.main import main

if __name__ == "__main__":
    main()

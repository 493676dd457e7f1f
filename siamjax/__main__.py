"""`python -m siamjax` is the command `siamjax`."""

from siamjax.cli import command

if __name__ == "__main__":
    command()

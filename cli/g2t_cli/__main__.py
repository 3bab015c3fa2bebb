"""`python -m g2t_cli`, and `torchrun -m g2t_cli`."""

from g2t_cli.app import main

if __name__ == "__main__":
    main()

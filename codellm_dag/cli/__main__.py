"""``python -m codellm_dag.cli``: the console script where it is not on the path."""

from codellm_dag.cli import main

if __name__ == "__main__":
    main()

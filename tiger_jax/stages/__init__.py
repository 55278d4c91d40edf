"""The five stages: what each is made from, how it is built and loaded."""

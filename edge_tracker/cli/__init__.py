"""One module per subcommand: each parses its arguments, calls one library function, and prints.

Heavy imports are inside the functions, so that `edge-tracker --help` is fast and works without
them.
"""

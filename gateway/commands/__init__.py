"""What each command does, behind the parsing in gateway.__main__: results to stdout, words to stderr."""

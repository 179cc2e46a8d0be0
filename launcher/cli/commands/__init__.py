"""One module a command: flags in, a call of the api, a screen out."""

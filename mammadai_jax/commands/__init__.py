"""The commands of `mammadai`, each in a module that is read when it is called."""

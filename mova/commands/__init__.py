"""The commands, each with its options, in a file for one or a family; what takes time is imported when it runs."""

"""`mcc package`: the engine's sources cut down to what a model needs (subset), built and measured (library), and the folder
that an app takes (folder)."""

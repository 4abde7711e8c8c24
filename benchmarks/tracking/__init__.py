"""How good the engine's tracks are."""

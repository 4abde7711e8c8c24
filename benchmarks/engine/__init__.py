"""What the engine costs beside the network it runs."""

"""Pictures that several commands draw, on matplotlib's figures without a display."""

"""Code on its way out, outputs on their way back."""

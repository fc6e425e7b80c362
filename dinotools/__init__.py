"""dinotools: pre-train DINO vision transformers and measure frozen backbones as the DINO paper does."""

__version__ = "0.1.0"

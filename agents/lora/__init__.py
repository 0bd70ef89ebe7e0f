"""The library route: a local model with a LoRA adapter writes the turn. Needs the `lora` extra."""

from .adapter import load_writer, save_adapter
from .local_model import LocalModel, load_local_model
from .training import train
from .writer import Decoding, LocalWriter

__all__ = ["Decoding", "LocalModel", "LocalWriter", "load_local_model", "load_writer", "save_adapter", "train"]

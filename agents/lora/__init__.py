"""The library route: a local model with a LoRA adapter writes the turn. Needs the `lora` extra."""

__all__: list[str] = []

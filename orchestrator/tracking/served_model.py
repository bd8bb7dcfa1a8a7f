"""Code of every registered model: MLflow copies this file next to the checkpoint, and runs it to load the model.

It holds no weights and is no pickle. Import nothing from here: importing declares a model to MLflow.
"""

import warnings
from typing import Any, final

import numpy as np
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow 3.17 warns about type hints of its own models
    import mlflow
    from mlflow.pyfunc import PythonModel


@final
class ServedModel(PythonModel):  # type: ignore[misc]  # MLflow has no types
    """Model of the checkpoint next to this file: images to logits.

    It runs on the CPU. Load it with ``model_config={"device": "cuda"}`` to run it on a GPU.
    """

    def load_context(self, context: Any) -> None:
        """Read the checkpoint, without running any code in it."""
        from trainables.models.loading import load_model  # noqa: PLC0415

        self.device = torch.device(context.model_config.get("device", "cpu"))
        self.model = load_model(context.artifacts["checkpoint"], device=self.device)

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:  # noqa: ARG002  MLflow's signature
        """Return the logits (B, K), float32, of images (B, C, H, W), float32 in [0, 1].

        Raises:
            ValueError: pixels outside [0, 1].
        """
        if model_input.size and not (model_input.min() >= 0 and model_input.max() <= 1):  # nan is refused too
            low, high = model_input.min(), model_input.max()
            raise ValueError(f"pixels: must lie in [0, 1], got {low:g} to {high:g}; divide bytes by 255")
        with torch.inference_mode():
            logits: np.ndarray = self.model(torch.tensor(model_input, device=self.device)).cpu().numpy()
        return logits


mlflow.models.set_model(ServedModel())

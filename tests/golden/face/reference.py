"""Runs the original TFLite network on the sample portrait and keeps what it says.

    pip install ai-edge-litert numpy pillow safetensors
    python reference.py package/face_detection_short_range.tflite ../../../assets/portraits/sample.jpg
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from safetensors.numpy import save_file

network, portrait = sys.argv[1:]
image = np.asarray(Image.open(portrait).convert("RGB").resize((128, 128), Image.BOX))
interpreter = Interpreter(network)
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None].astype(np.float32) / 127.5 - 1)
interpreter.invoke()
outputs = {detail["name"]: interpreter.get_tensor(detail["index"])[0] for detail in interpreter.get_output_details()}
tensors = {"image": image, "scores": outputs["classificators"], "boxes": outputs["regressors"]}
for name, tensor in tensors.items():
    print(name, tensor.shape, tensor.dtype)
save_file(tensors, Path(__file__).with_name("short-range.safetensors"))

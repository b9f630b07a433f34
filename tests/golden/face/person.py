"""Runs the original TFLite network on the sample portrait and keeps what it says.

    pip install ai-edge-litert numpy pillow safetensors
    python person.py package/selfie_segmentation.tflite ../../../assets/portraits/sample.jpg
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from safetensors.numpy import save_file

network, portrait = sys.argv[1:]
image = np.asarray(Image.open(portrait).convert("RGB").resize((128, 128), Image.BOX))
doubled = image.repeat(2, 0).repeat(2, 1)
interpreter = Interpreter(network)
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], doubled[None].astype(np.float32) / 255)
interpreter.invoke()
mask = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0, :, :, 0]
print(mask.shape, mask.mean())
save_file({"image": image, "mask": mask.astype(np.float16)}, Path(__file__).with_name("person.safetensors"))

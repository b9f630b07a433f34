"""Converts the networks of MediaPipe that are inside the program from TFLite to safetensors.

    pip install tflite numpy safetensors
    npm pack @mediapipe/face_detection@0.4.1657300184 && tar xzf mediapipe-face_detection-0.4.1657300184.tgz
    python convert_tflite.py package face-detector
    npm pack @mediapipe/selfie_segmentation@0.1.1675465747 && tar xzf mediapipe-selfie_segmentation-0.1.1675465747.tgz
    python convert_tflite.py package person-mask

Weights are 16-bit floats in the source and stay so: nothing is lost. Convolutions go from TFLite's [out, height, width, in] to
[out, in, height, width], depthwise ones from [1, height, width, channel] to [channel, 1, height, width], transposed ones to
[in, out, height, width]. Layers are named by their order in the file ("conv0", "conv1", ...), which is the order in which
src/face/network.rs and src/face/person.rs use them.
"""

import sys
from pathlib import Path

import numpy as np
import tflite
from safetensors.numpy import save_file
from tflite.Model import Model

# The file in the package, and the package.
SOURCES = {
    "face-detector": ("face_detection_short_range.tflite", "@mediapipe/face_detection 0.4.1657300184"),
    "person-mask": ("selfie_segmentation.tflite", "@mediapipe/selfie_segmentation 0.1.1675465747"),
}
ORDER = {
    tflite.BuiltinOperator.CONV_2D: (0, 3, 1, 2),
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D: (3, 0, 1, 2),
    # MediaPipe's own transposed convolution with a bias, the last layer of the person mask.
    tflite.BuiltinOperator.CUSTOM: (3, 0, 1, 2),
}


def operator(model, op):
    code = model.OperatorCodes(op.OpcodeIndex())
    return max(code.BuiltinCode(), code.DeprecatedBuiltinCode())


def convert(path):
    model = Model.GetRootAs(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    operators = [graph.Operators(i) for i in range(graph.OperatorsLength())]

    # Every weight passes through a DEQUANTIZE from 16 to 32 bits on its way into a layer.
    stored = {}
    for op in operators:
        if operator(model, op) == tflite.BuiltinOperator.DEQUANTIZE:
            tensor = graph.Tensors(op.Inputs(0))
            assert tensor.Type() == tflite.TensorType.FLOAT16
            values = np.frombuffer(model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes(), "<f2")
            stored[op.Outputs(0)] = values.reshape(tensor.ShapeAsNumpy())

    tensors = {}
    for op in operators:
        kind = operator(model, op)
        if kind in ORDER:
            weight, bias = stored[op.Inputs(1)], stored[op.Inputs(2)]
            name = f"conv{len(tensors) // 2}"
            tensors[f"{name}.weight"] = np.ascontiguousarray(weight.transpose(ORDER[kind]))
            tensors[f"{name}.bias"] = bias
    return tensors


def main():
    package, out = Path(sys.argv[1]), Path(sys.argv[2])
    file, source = SOURCES[out.resolve().name]
    tensors = convert(package / file)
    save_file(tensors, out / "model.safetensors", {"source": f"npm {source}, {file}", "license": "Apache-2.0"})
    print(len(tensors) // 2, "layers,", sum(t.size for t in tensors.values()), "parameters")


main()

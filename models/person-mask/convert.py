"""Converts the selfie segmentation network of @mediapipe/selfie_segmentation from TFLite to safetensors.

    pip install tflite numpy safetensors
    npm pack @mediapipe/selfie_segmentation@0.1.1675465747 && tar xzf mediapipe-selfie_segmentation-0.1.1675465747.tgz
    python convert.py package .

Weights are 16-bit floats in the source and stay so: nothing is lost. Convolutions go from TFLite's [out, height, width, in] to
[out, in, height, width], depthwise ones from [1, height, width, channel] to [channel, 1, height, width], the transposed one at the end
to [in, out, height, width]. Layers are named by their order in the file ("conv0", "conv1", ...), which is the order in which
src/face/person.rs uses them.
"""

import sys
from pathlib import Path

import numpy as np
import tflite
from safetensors.numpy import save_file
from tflite.Model import Model

SOURCE = "selfie_segmentation.tflite"
ORDER = {
    tflite.BuiltinOperator.CONV_2D: (0, 3, 1, 2),
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D: (3, 0, 1, 2),
    # MediaPipe's own transposed convolution with a bias, the last layer.
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
    tensors = convert(package / SOURCE)
    metadata = {"source": f"npm @mediapipe/selfie_segmentation 0.1.1675465747, {SOURCE}", "license": "Apache-2.0"}
    save_file(tensors, out / "model.safetensors", metadata)
    print(len(tensors) // 2, "layers,", sum(t.size for t in tensors.values()), "parameters")


main()

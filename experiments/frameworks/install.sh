#!/bin/bash
# Makes an environment for each framework that experiments.reproduction.frameworks
# compares with: DIR/optuna, DIR/keras_tuner, ... What does not install leaves pip's
# last words in DIR/NAME/failed.txt.
#
#   experiments/frameworks/install.sh DIR [PYTHON]
set -u
folder=$1
python=${2:-python3}

install() {
    local name=$1
    shift
    "$python" -m venv "$folder/$name"
    if ! "$folder/$name/bin/pip" install --quiet "$@" 2>"$folder/$name/pip.log"; then
        grep -h ERROR "$folder/$name/pip.log" | tail -1 >"$folder/$name/failed.txt"
    fi
}

mkdir -p "$folder"
install optuna optuna torch
install keras_tuner keras-tuner keras tensorflow-cpu tensorboard
# AutoKeras 3.0 hands Keras a NumPy integer, which newer versions refuse.
install autokeras autokeras 'keras<3.11' tensorflow-cpu
install autogluon 'autogluon.tabular[lightgbm]'

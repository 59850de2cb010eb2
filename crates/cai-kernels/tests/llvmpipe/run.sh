#!/bin/sh
# Runs a command with `vulkan:cpu` (or CAI_TEST_DEVICE) on Mesa's llvmpipe, as the device of the tests that know
# CAI_TEST_DEVICE. Debian: apt install mesa-vulkan-drivers libvulkan-dev gcc
set -e
here=$(cd "$(dirname "$0")" && pwd)
out=${CARGO_TARGET_DIR:-$here/../../../../target}/llvmpipe
mkdir -p "$out"
cc -O1 -shared -fPIC -o "$out/libshared_memory.so" "$here/shared_memory.c"
cp "$here/shared_memory.json" "$out"
export VK_LAYER_PATH="$out" VK_INSTANCE_LAYERS=VK_LAYER_CAI_shared_memory
# Most of the time goes into the search for the fastest products: less of it, of quickly compiled shaders.
export CUBECL_AUTOTUNE_LEVEL=minimal GALLIVM_PERF=nopt
export CAI_TEST_DEVICE="${CAI_TEST_DEVICE:-vulkan:cpu}"
exec "$@"

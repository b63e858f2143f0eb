#!/bin/sh
# Builds the plugin. The flag lets the SDK ask Go's runtime for memory that the garbage collector
# leaves alone, which Go keeps to itself otherwise.
set -eu
export GOOS=wasip1 GOARCH=wasm
go build -buildmode=c-shared -trimpath -buildvcs=false -ldflags=-checklinkname=0 -o build/core.wasm ./src
"${JACKFIELD:-jackfield}" componentize build/core.wasm -o build/tutorial.wasm

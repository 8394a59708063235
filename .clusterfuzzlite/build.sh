#!/bin/bash -eu
# Called in the image: $OUT is where targets and seed corpora go.
cd "$SRC/understudy"
cargo fuzz build --fuzz-dir harness/fuzz -O
targets=harness/fuzz/target/x86_64-unknown-linux-gnu/release
for target in harness/fuzz/fuzz_targets/*.rs; do
    name=$(basename "$target" .rs)
    case $name in
    stdin | driver_planted) continue ;;
    esac
    cp "$targets/$name" "$OUT/"
    corpus=fixtures/corpus/$name
    [ -d "$corpus" ] && (cd "$corpus" && zip -qr "$OUT/${name}_seed_corpus.zip" .)
done

#!/bin/bash -eu
# Called in the image: $OUT is where targets, their options and seed corpora go.
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
    if [ -d "$corpus" ]; then
        rm -f "$OUT/${name}_seed_corpus.zip"
        (cd "$corpus" && zip -qr "$OUT/${name}_seed_corpus.zip" . -x '*.md')
    fi
    case $name in
    # Programs are long, and changed as programs: docs/fuzzing.md.
    driver_*) printf '[libfuzzer]\nmax_len = 16384\nlen_control = 0\n' > "$OUT/$name.options" ;;
    esac
done

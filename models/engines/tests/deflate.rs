//! Streams in parts, and outputs that are just long enough.
#![cfg(test)]

use proptest::collection::vec;
use proptest::prelude::*;
use understudy_engines::deflate::{
    Defect, Huffman, Inflated, Inflater, Options, Progress, compress,
};

fn packed(input: &[u8], huffman: Huffman, last: bool) -> Vec<u8> {
    let options = Options { huffman, level: 6, last, verify: true };
    compress(input, input.len() * 2 + 100, options).unwrap().data
}

/// Bytes of which some repeat.
fn input() -> impl Strategy<Value = Vec<u8>> {
    vec((any::<u8>(), 1..40_usize), 0..60)
        .prop_map(|runs| runs.into_iter().flat_map(|(byte, len)| vec![byte % 16; len]).collect())
}

proptest! {
    #[test]
    fn parts_of_any_size_make_the_whole(
        input in input(),
        fixed in any::<bool>(),
        last in any::<bool>(),
        sizes in vec((0..20_usize, 0..20_usize), 1..8),
    ) {
        let huffman = if fixed { Huffman::Fixed } else { Huffman::Dynamic };
        let data = packed(&input, huffman, last);
        let mut inflater = Inflater::new();
        let (mut at, mut found, mut idle) = (0, Vec::<u8>::new(), 0);
        for (take, room) in sizes.iter().cycle() {
            let part = &data[at..data.len().min(at + take)];
            let mut output = vec![0; *room];
            let Inflated { consumed, produced, progress } = inflater.inflate(part, &mut output).unwrap();
            at += consumed;
            found.extend(&output[..produced]);
            match progress {
                Progress::End => break,
                Progress::NeedsInput => prop_assert_eq!(consumed, part.len()),
                // Full, and right to say that this is not all.
                Progress::NeedsRoom => {
                    prop_assert_eq!(produced, *room);
                    prop_assert!(found.len() < input.len() || at < data.len());
                }
            }
            if !last && at == data.len() && found.len() == input.len() {
                // A part of nothing says that there is no more.
                let rest = inflater.inflate(&[], &mut [0; 4]).unwrap();
                prop_assert_eq!(rest.produced, 0);
                prop_assert_eq!(rest.progress, Progress::NeedsInput);
                break;
            }
            idle = if consumed + produced > 0 { 0 } else { idle + 1 };
            // All sizes may be of nothing.
            if idle > sizes.len() {
                return Ok(());
            }
        }
        prop_assert_eq!(found, input);
        prop_assert_eq!(at, data.len());
    }

    #[test]
    fn an_output_is_full_only_if_there_is_more(input in input(), last in any::<bool>()) {
        let data = packed(&input, Huffman::Dynamic, last);
        let done = if last { Progress::End } else { Progress::NeedsInput };
        for room in [input.len(), input.len() + 1] {
            let found = Inflater::new().inflate(&data, &mut vec![0; room]).unwrap();
            let whole = Inflated { consumed: data.len(), produced: input.len(), progress: done };
            prop_assert_eq!(found, whole);
        }
        if let Some(less) = input.len().checked_sub(1) {
            let found = Inflater::new().inflate(&data, &mut vec![0; less]).unwrap();
            prop_assert_eq!((found.produced, found.progress), (less, Progress::NeedsRoom));
        }
    }
}

/// Some of these find the defect behind the byte that is made to see whether there is more.
#[test]
fn a_defect_behind_a_full_output_is_told_at_last_and_for_good() {
    let mut data = packed(b"a", Huffman::Fixed, false);
    // A block of type 3 behind the empty one.
    data.push(7);
    for (len, room) in [(data.len(), 0), (data.len(), 1), (1, 0), (1, 1), (3, 0)] {
        let mut inflater = Inflater::new();
        let (mut at, mut output, mut found) = (0, vec![0; room], Vec::new());
        let error = loop {
            let part = &data[at..data.len().min(at + len)];
            match inflater.inflate(part, &mut output) {
                Ok(inflated) => {
                    at += inflated.consumed;
                    found.extend(&output[..inflated.produced]);
                }
                Err(error) => break error,
            }
            output = vec![0; 1];
        };
        assert_eq!(error, Defect::BlockType);
        assert!(b"a".starts_with(&found[..]));
        assert_eq!(inflater.inflate(&[], &mut output), Err(error));
    }
}

//! The compression service (`icp_qat_fw_comp.h`).

use understudy_device::{Bus, FinishedJob, Job};
use understudy_engines::Error;
use understudy_engines::deflate::{
    self, Compressed, Defect, Huffman, Inflated, Inflater, Options, Progress,
};
use understudy_ring::SgList;

use super::{Failure, list, read_buffers};
use crate::layout::{
    CompressionRequest, FLAG_VERIFIED, Response, compression, compression_flags as flags, error,
    status,
};

/// Streams that can be open at a time. The stream used longest ago makes room.
const MAX_STREAMS: usize = 64;

/// The algorithm bit of the configuration: LZS.
const CONFIG_LZS: u32 = 1 << 31;

/// Decompressions that go on with another request, by the address of their state in guest memory,
/// where the part would keep them.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// The most recently used last.
    open: Vec<(u64, Stream)>,
}

/// A decompression, and CRC-32 and Adler-32 of what it has written.
#[derive(Debug)]
struct Stream {
    inflater: Inflater,
    checksums: [u32; 2],
}

impl Streams {
    fn take(&mut self, key: u64) -> Option<Stream> {
        let at = self.open.iter().position(|(known, _)| *known == key)?;
        Some(self.open.remove(at).1)
    }

    fn put(&mut self, key: u64, stream: Stream) {
        self.take(key);
        if self.open.len() >= MAX_STREAMS {
            self.open.remove(0);
        }
        self.open.push((key, stream));
    }
}

/// What a job returns.
enum Output {
    Compressed { result: Result<Compressed, Error>, checksums: [u32; 2] },
    Inflated(Box<Decompressed>),
}

struct Decompressed {
    result: Result<Inflated, Defect>,
    data: Vec<u8>,
    stream: Stream,
}

/// A request whose job is under way.
#[derive(Debug)]
pub(crate) struct Pending {
    request: CompressionRequest,
    destination: SgList,
    /// The stream that goes on.
    stream: Option<u64>,
}

/// Reads the source and makes the job.
pub(crate) fn start(
    bus: &mut dyn Bus,
    request: &CompressionRequest,
    streams: &mut Streams,
    max_len: usize,
) -> Result<(Job, Pending), Failure> {
    let stateful = request.header.specific.get() & flags::STATEFUL != 0;
    let decompresses = request.header.command == compression::DECOMPRESS;
    if request.header.command > compression::DECOMPRESS
        || request.config.get() & CONFIG_LZS != 0
        || stateful && !decompresses
    {
        return Err(Failure::Unsupported);
    }
    let (mut source, mut destination) = (list(max_len as u64), list(max_len as u64));
    let common = request.header.common;
    read_buffers(bus, &request.buffers, common, &mut source, &mut destination)?;
    let len = usize::try_from(request.len.get()).map_err(|_| Failure::Invalid)?;
    if len > max_len {
        return Err(Failure::Invalid);
    }
    let mut input = vec![0; len];
    source.cursor().read(bus, &mut input)?;
    let room = u64::from(request.room.get()).min(destination.bytes()).min(max_len as u64);
    let room = usize::try_from(room).map_err(|_| Failure::Invalid)?;
    let stream = stateful.then(|| request.state.get());
    let job = if decompresses {
        let stream = match stream {
            Some(key) if request.flags.get() & flags::START == 0 => {
                streams.take(key).ok_or(Failure::Invalid)?
            }
            _ => Stream { inflater: Inflater::new(), checksums: starts(request) },
        };
        inflate_job(input, room, stream)
    } else {
        deflate_job(input, room, starts(request), options(request))
    };
    let job = job.holding(len.saturating_add(room));
    Ok((job, Pending { request: *request, destination, stream }))
}

/// The checksums to start from. What a request says counts only at the start of a stream: drivers
/// say the same in all.
fn starts(request: &CompressionRequest) -> [u32; 2] {
    [request.crc32.get(), request.adler32.get()]
}

fn checksums(starts: [u32; 2], data: &[u8]) -> [u32; 2] {
    [deflate::crc32(starts[0], data), deflate::adler32(starts[1], data)]
}

fn options(request: &CompressionRequest) -> Options {
    let depth = request.config.get() >> 28 & 7;
    let (huffman, quickest) = match request.header.command {
        compression::STATIC => (Huffman::Fixed, 1),
        // The codec's first level writes fixed codes only.
        _ => (Huffman::Dynamic, 2),
    };
    let level = match depth {
        0 => quickest,
        1 => 4,
        2 => 6,
        3 => 8,
        _ => 9,
    };
    let has = |flag| request.flags.get() & flag != 0;
    Options { huffman, level, last: has(flags::FINAL_BLOCK), verify: has(flags::VERIFY) }
}

fn deflate_job(input: Vec<u8>, room: usize, starts: [u32; 2], options: Options) -> Job {
    Job::new(move || {
        let result = deflate::compress(&input, room, options);
        let covered = result.as_ref().map_or(0, |compressed| compressed.consumed);
        let checksums = checksums(starts, input.get(..covered).unwrap_or_default());
        Output::Compressed { result, checksums }
    })
}

fn inflate_job(input: Vec<u8>, room: usize, mut stream: Stream) -> Job {
    Job::new(move || {
        let mut data = vec![0; room];
        let result = stream.inflater.inflate(&input, &mut data);
        data.truncate(result.map_or(0, |inflated| inflated.produced));
        stream.checksums = checksums(stream.checksums, &data);
        Output::Inflated(Box::new(Decompressed { result, data, stream }))
    })
}

impl Pending {
    /// Command of the request.
    pub(crate) fn command(&self) -> u8 {
        self.request.header.command
    }

    /// Whether the final block must be in the input: drivers say so of all streams without state.
    fn must_end(&self) -> bool {
        let both = flags::END | flags::FINAL_BLOCK;
        self.request.flags.get() & both == both
    }

    /// Writes the output. Returns the response, and what to count.
    pub(crate) fn finish(
        self,
        bus: &mut dyn Bus,
        done: FinishedJob,
        streams: &mut Streams,
    ) -> (Response, Result<u64, Failure>) {
        let request = &self.request;
        let mut response = Response::to(&request.header, request.buffers.opaque);
        let result = match done.into_output::<Output>() {
            Some(Output::Compressed { result, checksums }) => {
                self.compressed(bus, &mut response, result, checksums)
            }
            Some(Output::Inflated(inflated)) => {
                self.inflated(bus, &mut response, *inflated, streams)
            }
            None => Err(Failure::Invalid),
        };
        if let Err(failure) = result {
            response.fail(status::COMPRESSION, failure);
        }
        (response, result)
    }

    fn compressed(
        &self,
        bus: &mut dyn Bus,
        response: &mut Response,
        result: Result<Compressed, Error>,
        checksums: [u32; 2],
    ) -> Result<u64, Failure> {
        let Compressed { data, consumed } = result?;
        self.destination.cursor().write(bus, &data)?;
        if self.request.flags.get() & flags::VERIFY != 0 {
            response.flags |= FLAG_VERIFIED;
        }
        count(response, consumed, data.len(), checksums);
        if consumed as u64 != u64::from(self.request.len.get()) {
            return Err(Failure::Codec(error::OVERFLOW));
        }
        Ok(consumed as u64)
    }

    fn inflated(
        &self,
        bus: &mut dyn Bus,
        response: &mut Response,
        inflated: Decompressed,
        streams: &mut Streams,
    ) -> Result<u64, Failure> {
        let Decompressed { result, data, stream } = inflated;
        let Inflated { consumed, produced, progress } =
            result.map_err(|defect| Failure::Codec(code(defect)))?;
        self.destination.cursor().write(bus, &data)?;
        count(response, consumed, produced, stream.checksums);
        if let (Some(key), true) = (self.stream, progress != Progress::End) {
            streams.put(key, stream);
        }
        match progress {
            Progress::End => response.status |= status::END_OF_LAST_BLOCK,
            Progress::NeedsInput if self.must_end() => {
                return Err(Failure::Codec(error::INCOMPLETE));
            }
            Progress::NeedsInput => {}
            Progress::NeedsRoom => return Err(Failure::Codec(error::OVERFLOW)),
        }
        Ok(produced as u64)
    }
}

/// Sets the counters and checksums of a response.
fn count(response: &mut Response, consumed: usize, produced: usize, checksums: [u32; 2]) {
    let word = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let [crc32, adler32] = checksums;
    response.body = [word(consumed), word(produced), crc32, adler32].map(Into::into);
}

/// The `ERR_CODE_*` of a bad stream.
fn code(defect: Defect) -> i8 {
    match defect {
        Defect::BlockType => error::BLOCK_TYPE,
        Defect::StoredLengths => error::STORED_LENGTHS,
        Defect::TooManyCodes => error::TOO_MANY_CODES,
        Defect::CodeLengths => error::CODE_LENGTHS,
        Defect::Repeat => error::REPEAT,
        Defect::LiteralCodes => error::LITERAL_CODES,
        Defect::DistanceCodes => error::DISTANCE_CODES,
        Defect::Code => error::CODE,
        Defect::Distance => error::DISTANCE,
    }
}

//! Traces: `--trace` and `--monitor` of `serve` and `guest`, and `understudy trace`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use understudy_catalog::Device;
use understudy_faults::Plan;
use understudy_pci::PciFunction;
use understudy_trace::{
    Consumer, Decoder, Format, Header, Line, Pipe, Place, Reader, Record, Recorder, RegisterName,
    SHOWN_OF_READ, Summary, TracedFunction, Watch, output,
};

use crate::cli::{TraceArgs, TraceCommand, TraceShowArgs};
use crate::failure::{Failure, Outcome};

/// What one device's trace is of.
pub(crate) struct Session<'a> {
    pub(crate) device: &'static Device,
    pub(crate) parameters: &'a Value,
    pub(crate) without_msix: bool,
    /// What goes wrong on purpose.
    pub(crate) plan: Option<&'a Plan>,
    /// What runs, for people.
    pub(crate) name: String,
}

/// A device's trace while it is being served.
pub(crate) struct Tracing {
    pipe: Pipe,
    watch: Option<Arc<Mutex<Watch>>>,
    path: Option<PathBuf>,
}

impl Tracing {
    /// Begins to record the function, if anything was asked for. `path` is where the trace goes.
    pub(crate) fn start(
        args: &TraceArgs,
        watch: bool,
        path: Option<PathBuf>,
        session: &Session<'_>,
        function: &mut TracedFunction,
    ) -> Result<Option<Self>, Failure> {
        let watch = watch.then_some(());
        if path.is_none() && watch.is_none() {
            return Ok(None);
        }
        let header = header(session, function);
        let mut consumers: Vec<Box<dyn Consumer>> = Vec::new();
        if let Some(path) = &path {
            let limit = args.trace_limit << 20;
            let file = output::create(path, &header, limit).map_err(|error| {
                Failure::environment("cannot write the trace", path.display(), error)
            })?;
            consumers.push(file);
        }
        let watch = watch.map(|()| Arc::new(Mutex::new(Watch::new(&header))));
        if let Some(watch) = &watch {
            consumers.push(Box::new(Watching(Arc::clone(watch))));
        }
        let pipe = Pipe::start(consumers)
            .map_err(|error| Failure::environment("cannot start a thread", "trace", error))?;
        let recorder = Recorder::new(pipe.sink());
        let whole = path.as_ref().is_some_and(|path| Format::of(path) == Format::Recording);
        // Payload is needed for a replay alone, and costs the most.
        let recorder = if whole { recorder } else { recorder.keep_of_reads(SHOWN_OF_READ) };
        function.set_recorder(Some(recorder));
        Ok(Some(Self { pipe, watch, path }))
    }

    /// What was seen so far.
    pub(crate) fn report(&self) -> Option<understudy_trace::WatchReport> {
        self.pipe.flush();
        let watch = self.watch.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(watch.report())
    }

    /// Ends the trace of a device that is no longer served, and says what there is to say.
    pub(crate) fn finish(&self) -> String {
        let Self { pipe, watch, path } = self;
        let Summary { records, dropped, errors } = pipe.finish();
        let mut out = String::new();
        if let Some(path) = path {
            out += &format!("trace: {records} records in {}\n", path.display());
        }
        if dropped > 0 {
            out += &format!("trace: {dropped} records were lost: the disk was too slow for them\n");
        }
        for error in errors {
            out += &format!("trace: {error}\n");
        }
        if let Some(watch) = watch {
            let watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
            out += &watch.report().to_string();
        }
        out
    }
}

/// Shows records to what is also looked at from elsewhere.
struct Watching(Arc<Mutex<Watch>>);

impl Consumer for Watching {
    fn record(&mut self, place: Place, record: &Record<'_>) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).record(place, record);
        Ok(())
    }
}

fn header(session: &Session<'_>, function: &PciFunction) -> Header {
    let Session { device, parameters, without_msix, plan, name } = session;
    // A plan came from text, so it can be text.
    let faults = plan.and_then(|plan| serde_json::to_value(plan).ok());
    // All parameters, so that the defaults of a later version do not matter.
    let mut all = device.default_parameters();
    if let (Value::Object(all), Value::Object(given)) = (&mut all, parameters) {
        all.extend(given.clone());
    }
    Header {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        device: device.name.to_owned(),
        parameters: all,
        without_msix: *without_msix,
        faults: faults.unwrap_or_default(),
        session: name.clone(),
        registers: RegisterName::all(function.identity(), &function.inspect()),
        ..Header::default()
    }
}

/// `path` with words before its extension: `a.jsonl` and `2` make `a-2.jsonl`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = match path.extension() {
        Some(extension) => format!("{stem}-{suffix}.{}", extension.to_string_lossy()),
        None => format!("{stem}-{suffix}"),
    };
    path.with_file_name(name)
}

pub(crate) fn run(command: &TraceCommand) -> Outcome {
    match command {
        TraceCommand::Show(args) => show(args),
        TraceCommand::Watch { file } => watch(file),
        TraceCommand::Convert { file, to } => convert(file, to),
    }
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    let file = File::open(path)
        .map_err(|error| Failure::environment("cannot read the trace", path.display(), error))?;
    Ok(BufReader::new(file))
}

/// A recording, opened.
pub(crate) fn recording(path: &Path) -> Result<Reader<BufReader<File>>, Failure> {
    Reader::new(open(path)?).map_err(|error| Failure::usage(error, path.display(), "a recording"))
}

fn damaged(path: &Path) -> impl Fn(understudy_trace::ReadError) -> Failure {
    move |error| Failure::usage(error, path.display(), "a whole recording")
}

/// Calls `each` with every record of a recording, until it returns false.
fn each(
    path: &Path,
    reader: &mut Reader<BufReader<File>>,
    mut each: impl FnMut(Place, &Record<'_>) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut at = 0;
    while let Some((position, record)) = reader.read().map_err(damaged(path))? {
        at = record.at().unwrap_or(at);
        if !each(Place { position, at }, &record)? {
            break;
        }
    }
    Ok(())
}

fn show(args: &TraceShowArgs) -> Outcome {
    let path = &args.file;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut print = |line: &Line| -> Result<bool, Failure> {
        if !wanted(args, line) {
            return Ok(true);
        }
        left = left.saturating_sub(1);
        match writeln!(out, "{}", line.text()) {
            Ok(()) => Ok(left > 0),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Failure::environment("cannot write", "standard output", error)),
        }
    };
    match Format::of(path) {
        Format::Pcapng => {
            return Err(Failure::usage(
                "a capture is for Wireshark",
                path.display(),
                "a recording",
            ));
        }
        Format::JsonLines => {
            // The first line is the header.
            for (index, text) in open(path)?.lines().enumerate().skip(1) {
                let text = text.map_err(|error| {
                    Failure::environment("cannot read the trace", path.display(), error)
                })?;
                let line = serde_json::from_str(&text).map_err(|error| {
                    let place = format!("{}:{}", path.display(), index + 1);
                    Failure::usage(error, place, "a line of a trace")
                })?;
                if !print(&line)? {
                    break;
                }
            }
        }
        Format::Recording => {
            let mut reader = recording(path)?;
            let mut decoder = Decoder::new(reader.header());
            each(path, &mut reader, |place, record| print(&decoder.line(place, record)))?;
        }
    }
    Ok(true)
}

/// Whether the filters let a line pass.
fn wanted(args: &TraceShowArgs, line: &Line) -> bool {
    let kind = args.kind.is_empty() || args.kind.iter().any(|kind| line.kind.starts_with(kind));
    let register = args.register.is_empty()
        || (!line.register.is_empty()
            && args.register.iter().any(|register| line.register.contains(register)));
    let queue = args.queue.is_empty() || line.queue.is_some_and(|q| args.queue.contains(&q));
    kind && register && queue && args.from.is_none_or(|from| line.position >= from)
}

fn watch(path: &Path) -> Outcome {
    let mut reader = recording(path)?;
    let mut watch = Watch::new(reader.header());
    each(path, &mut reader, |place, record| {
        watch.record(place, record);
        Ok(true)
    })?;
    let report = watch.report();
    crate::print(&report.to_string())?;
    Ok(report.findings.is_empty())
}

fn convert(path: &Path, to: &Path) -> Outcome {
    let mut reader = recording(path)?;
    let failure =
        |error: io::Error| Failure::environment("cannot write the trace", to.display(), error);
    if Format::of(to) == Format::Recording {
        return Err(Failure::usage("that is no other format", to.display(), ".jsonl or .pcapng"));
    }
    let mut out = output::create(to, reader.header(), u64::MAX).map_err(failure)?;
    each(path, &mut reader, |place, record| {
        out.record(place, record).map_err(failure)?;
        Ok(true)
    })?;
    out.finish().map_err(failure)?;
    Ok(true)
}

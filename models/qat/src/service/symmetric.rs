//! The symmetric service: ciphers, hashes, both in either order, CCM and GCM (`icp_qat_fw_la.h`).
//!
//! Where a cipher changes data in place, a hash covers them, or GCM encrypts them in place, and the
//! digest is elsewhere, that is done in guest memory itself if the host lends it. Any other request
//! passes through memory of the model as a whole: read once, changed, written once, and not at all
//! if its digest does not match.
//!
//! Requests are done at once, but long ones are jobs: what is slow must not keep the host from
//! answering the driver.
//!
//! - `plan`: which bytes a request touches.
//! - `task`: what engines do to them.
//! - `digest`: hashes and MACs.

mod digest;
mod plan;
mod task;

use std::ops::Range;

use understudy_device::{Bus, FinishedJob, Job};
use understudy_ring::{Cursor, SgList};

use super::content::MAX_CONTENT_LEN;
use super::keys::KeyCache;
use super::{Failure, list, read_buffers};
use crate::layout::{SymmetricRequest, common, extended, flags, symmetric};
use plan::Plan;
use task::{Data, Inputs, Task};

/// Longest digest in bytes.
const MAX_TAG_LEN: usize = 64;

/// Longest request that is done at once, in bytes. The slowest cipher takes milliseconds for it.
const MAX_IMMEDIATE_LEN: usize = 128 << 10;

/// Memory that requests use one after the other.
#[derive(Debug)]
pub(crate) struct Scratch {
    content: Vec<u8>,
    data: Vec<u8>,
    plan: Plan,
    inputs: Inputs,
    source: SgList,
    destination: SgList,
    keys: KeyCache,
    max_len: usize,
    /// Bytes that requests covered, jobs apart, since somebody last set it to 0.
    pub(crate) covered: u64,
}

impl Scratch {
    /// For requests that cover up to `max_len` bytes.
    pub(crate) fn new(max_len: usize) -> Self {
        Self {
            content: vec![0; MAX_CONTENT_LEN],
            data: Vec::new(),
            plan: Plan::default(),
            inputs: Inputs::default(),
            source: list(max_len as u64),
            destination: list(max_len as u64),
            keys: KeyCache::default(),
            max_len,
            covered: 0,
        }
    }

    /// Forgets keys and data.
    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.content.fill(0);
        self.data = Vec::new();
        self.inputs = Inputs::default();
    }
}

/// Which engines a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Cipher,
    Auth,
    Chain,
    Aead,
}

impl Kind {
    /// For counting; also of requests that fail.
    pub(crate) fn of(request: &SymmetricRequest) -> Option<Self> {
        let protocol = request.header.specific.get() >> flags::PROTOCOL_SHIFT & 7;
        match request.header.command {
            symmetric::CIPHER => Some(Self::Cipher),
            symmetric::AUTH => Some(Self::Auth),
            symmetric::CIPHER_HASH | symmetric::HASH_CIPHER => match protocol {
                flags::PROTOCOL_CCM | flags::PROTOCOL_GCM => Some(Self::Aead),
                _ => Some(Self::Chain),
            },
            _ => None,
        }
    }
}

/// How a request goes on.
pub(crate) enum Started {
    /// It is done, and covered as many bytes.
    Done(u64),
    /// The job does it.
    Later(Job, Box<Pending>),
}

/// A request whose job is under way.
#[derive(Debug)]
pub(crate) struct Pending {
    request: SymmetricRequest,
    plan: Plan,
    destination: SgList,
}

/// What a job returns.
struct Output {
    result: Result<(), Failure>,
    data: Vec<u8>,
    tag: [u8; MAX_TAG_LEN],
}

/// Executes a request, or reads what its job needs.
pub(crate) fn start(
    bus: &mut dyn Bus,
    request: &SymmetricRequest,
    scratch: &mut Scratch,
) -> Result<Started, Failure> {
    Kind::of(request).ok_or(Failure::Unsupported)?;
    let specific = request.header.specific.get();
    let absent =
        flags::PARTIAL | flags::CONFIG_IN_SHARED_RAM | flags::UPDATE_STATE | flags::OTHER_SLICES;
    let inline = request.header.common & common::CONTENT_INLINE != 0;
    if specific & absent != 0 || inline || request.header.extended & !extended::HASH_PROTOCOL != 0 {
        return Err(Failure::Unsupported);
    }
    let Scratch { content, data, plan, inputs, source, destination, keys, max_len, covered } =
        scratch;
    let len = usize::from(request.content_words) * 8;
    let content = content.get_mut(..len).ok_or(Failure::Invalid)?;
    bus.dma_read(request.content.get(), content)?;
    let mut task = Task::default();
    task.parse(request, content)?;
    read_buffers(bus, &request.buffers, request.header.common, source, destination)?;
    plan.make(request, task.cipher.is_some(), task.auth.as_ref(), *max_len)?;
    task.check(request, plan)?;
    if plan.end > MAX_IMMEDIATE_LEN {
        let mut data = Vec::new();
        read(bus, source, plan, &mut data)?;
        inputs.read(bus, request, plan, &task)?;
        let job = job(*request, content.to_vec(), plan.clone(), inputs.clone(), data);
        let pending =
            Pending { request: *request, plan: plan.clone(), destination: destination.clone() };
        return Ok(Started::Later(job, Box::new(pending)));
    }
    *covered += plan.end as u64;
    if !plan.direct {
        read(bus, source, plan, data)?;
    }
    inputs.read(bus, request, plan, &task)?;
    let mut place = match plan.direct {
        true => Data::InPlace { bus: &mut *bus, source, buffer: &mut *data },
        false => Data::Copied(&mut *data),
    };
    task.run(plan, keys, inputs, &mut place)?;
    if !plan.direct {
        write_data(bus, request, plan, destination, data)?;
    }
    write_tag(bus, request, plan, &inputs.tag)?;
    Ok(Started::Done(plan.end as u64))
}

/// The work of a long request on its own copy of everything.
fn job(
    request: SymmetricRequest,
    content: Vec<u8>,
    plan: Plan,
    mut inputs: Inputs,
    mut data: Vec<u8>,
) -> Job {
    let bytes = data.len();
    let job = Job::new(move || {
        let mut keys = KeyCache::default();
        let mut task = Task::default();
        let parsed = task.parse(&request, &content);
        let result = parsed
            .and_then(|()| task.run(&plan, &mut keys, &mut inputs, &mut Data::Copied(&mut data)));
        Output { result, data, tag: inputs.tag }
    });
    job.holding(bytes)
}

impl Pending {
    /// The request.
    pub(crate) fn request(&self) -> &SymmetricRequest {
        &self.request
    }

    /// Writes what the job made. Returns the bytes that the request covered.
    pub(crate) fn finish(self, bus: &mut dyn Bus, done: FinishedJob) -> Result<u64, Failure> {
        let Self { request, plan, destination } = &self;
        let Output { result, data, tag } = done.into_output().ok_or(Failure::Invalid)?;
        result?;
        write_data(bus, request, plan, destination, &data)?;
        write_tag(bus, request, plan, &tag)?;
        Ok(plan.end as u64)
    }
}

/// Copies what the request uses of its source to where it is there.
fn read(
    bus: &mut dyn Bus,
    source: &SgList,
    plan: &Plan,
    data: &mut Vec<u8>,
) -> Result<(), Failure> {
    data.resize(plan.end_with_tag(), 0);
    let used = plan.used();
    // A digest that is to be made need not have room in the source.
    data.get_mut(used.end..).unwrap_or_default().fill(0);
    let into = data.get_mut(used.clone()).ok_or(Failure::Invalid)?;
    Ok(part(source, &used)?.read(bus, into)?)
}

/// Writes what the cipher changed; out of place, everything. A hash alone changes nothing.
fn write_data(
    bus: &mut dyn Bus,
    request: &SymmetricRequest,
    plan: &Plan,
    destination: &SgList,
    data: &[u8],
) -> Result<(), Failure> {
    let changed = match request.header.command {
        symmetric::AUTH => 0..0,
        _ if plan.in_place => plan.cipher.clone(),
        _ => 0..plan.end,
    };
    let made = plan.tag.clone().filter(|_| plan.returns);
    for range in [changed, made.unwrap_or(0..0)] {
        if !range.is_empty() {
            let data = data.get(range.clone()).unwrap_or_default();
            part(destination, &range)?.write(bus, data)?;
        }
    }
    Ok(())
}

/// Writes a digest that was made and does not belong into the buffer.
fn write_tag(
    bus: &mut dyn Bus,
    request: &SymmetricRequest,
    plan: &Plan,
    tag: &[u8; MAX_TAG_LEN],
) -> Result<(), Failure> {
    if plan.returns && plan.tag.is_none() {
        let tag = tag.get(..plan.tag_len).ok_or(Failure::Invalid)?;
        bus.dma_write(request.auth.result.get(), tag)?;
    }
    Ok(())
}

/// A cursor that begins where the range does.
fn part<'a>(list: &'a SgList, range: &Range<usize>) -> Result<Cursor<'a>, Failure> {
    let mut cursor = list.cursor();
    cursor.skip(range.start as u64)?;
    Ok(cursor)
}

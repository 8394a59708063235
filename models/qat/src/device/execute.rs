//! From a request to its response, or to the job that makes one.

use understudy_device::{Bus, FinishedJob, Job};
use zerocopy::FromBytes;
use zerocopy::little_endian::U64;

use super::{Pending, Qat, Slot};
use crate::counters::Work;
use crate::layout::{
    CompressionRequest, FLAG_VALID, Header, PublicKeyRequest, Response, SymmetricRequest,
    compression, error, service, status,
};
use crate::queue::Request;
use crate::service::symmetric::{self, Kind, Started};
use crate::service::{Failure, compression as deflate, public_key};

impl Qat {
    pub(super) fn execute(&mut self, bus: &mut dyn Bus, request: &Request) -> Slot {
        let bytes = request.as_slice();
        let Ok((header, _)) = Header::read_from_prefix(bytes) else {
            return Slot::Ready(Work::Unknown, Response::empty());
        };
        // Of any request the opaque value is at the same place.
        let opaque = bytes.get(24..).and_then(|rest| U64::read_from_prefix(rest).ok());
        let opaque = opaque.map_or(U64::ZERO, |(opaque, _)| opaque);
        if header.service == service::NULL {
            return Slot::Ready(Work::Null, Response::null(&header, opaque));
        }
        let valid = header.flags & FLAG_VALID != 0;
        match header.service {
            service::SYMMETRIC if valid => match SymmetricRequest::ref_from_bytes(bytes) {
                Ok(request) => self.symmetric(bus, request),
                Err(_) => self.refuse(&header, opaque),
            },
            service::PUBLIC_KEY if valid => match PublicKeyRequest::read_from_prefix(bytes) {
                Ok((request, _)) => self.public_key(bus, &request),
                Err(_) => self.refuse(&header, opaque),
            },
            service::COMPRESSION if valid => match CompressionRequest::ref_from_bytes(bytes) {
                Ok(request) => self.compression(bus, request),
                Err(_) => self.refuse(&header, opaque),
            },
            _ => self.refuse(&header, opaque),
        }
    }

    /// A request that is none: too short for its service, not valid, or of no service there is.
    fn refuse(&mut self, header: &Header, opaque: U64) -> Slot {
        self.counters.count(Work::Unknown, Err(Failure::Unsupported));
        let failed = status::CRYPTO | status::PUBLIC_KEY | status::COMPRESSION;
        let mut response = Response::to(header, opaque);
        response.status = failed | status::UNSUPPORTED;
        response.error = error::FATAL;
        if header.service == service::PUBLIC_KEY {
            response = Response::public_key(header, opaque, [0; 2], Err(Failure::Unsupported));
        }
        Slot::Ready(Work::Unknown, response)
    }

    fn symmetric(&mut self, bus: &mut dyn Bus, request: &SymmetricRequest) -> Slot {
        match symmetric::start(bus, request, &mut self.symmetric) {
            Ok(Started::Later(job, pending)) => self.submit(bus, job, Pending::Symmetric(pending)),
            Ok(Started::Done(covered)) => self.symmetric_done(request, Ok(covered)),
            Err(failure) => self.symmetric_done(request, Err(failure)),
        }
    }

    fn symmetric_done(&mut self, request: &SymmetricRequest, result: Result<u64, Failure>) -> Slot {
        let work = match Kind::of(request) {
            Some(Kind::Cipher) => Work::Cipher,
            Some(Kind::Auth) => Work::Auth,
            Some(Kind::Chain) => Work::Chain,
            Some(Kind::Aead) => Work::Aead,
            None => Work::Unknown,
        };
        self.counters.count(work, result);
        let mut response = Response::to(&request.header, request.buffers.opaque);
        if let Err(failure) = result {
            response.fail(status::CRYPTO, failure);
        }
        Slot::Ready(work, response)
    }

    fn submit(&mut self, bus: &mut dyn Bus, job: Job, pending: Pending) -> Slot {
        let bytes = job.bytes();
        Slot::Running { id: bus.submit(job), bytes, pending }
    }

    fn public_key(&mut self, bus: &mut dyn Bus, request: &PublicKeyRequest) -> Slot {
        match public_key::start(bus, request) {
            Ok((job, pending)) => self.submit(bus, job, Pending::PublicKey(pending)),
            Err(failure) => {
                self.counters.count(Work::PublicKey, Err(failure));
                let tables = [request.source.get(), request.destination.get()];
                let result = Err(failure);
                let response =
                    Response::public_key(&request.header, request.opaque, tables, result);
                Slot::Ready(Work::PublicKey, response)
            }
        }
    }

    fn compression(&mut self, bus: &mut dyn Bus, request: &CompressionRequest) -> Slot {
        let work = compression_work(request.header.command);
        let max_len = usize::try_from(self.parameters.max_request).unwrap_or(usize::MAX);
        match deflate::start(bus, request, &mut self.streams, max_len) {
            Ok((job, pending)) => self.submit(bus, job, Pending::Compression(Box::new(pending))),
            Err(failure) => {
                self.counters.count(work, Err(failure));
                let mut response = Response::to(&request.header, request.buffers.opaque);
                response.fail(status::COMPRESSION, failure);
                response.error =
                    if failure == Failure::Fault { error::ENDPOINT } else { error::FATAL };
                Slot::Ready(work, response)
            }
        }
    }

    /// The response to a request whose job is done.
    pub(super) fn conclude(
        &mut self,
        bus: &mut dyn Bus,
        pending: Pending,
        done: FinishedJob,
    ) -> Slot {
        match pending {
            Pending::Symmetric(pending) => {
                let request = *pending.request();
                let result = pending.finish(bus, done);
                self.symmetric_done(&request, result)
            }
            Pending::PublicKey(pending) => {
                let (response, result) = pending.finish(bus, done);
                self.counters.count(Work::PublicKey, result);
                Slot::Ready(Work::PublicKey, response)
            }
            Pending::Compression(pending) => {
                let work = compression_work(pending.command());
                let (response, result) = pending.finish(bus, done, &mut self.streams);
                self.counters.count(work, result);
                Slot::Ready(work, response)
            }
        }
    }
}

fn compression_work(command: u8) -> Work {
    match command {
        compression::STATIC | compression::DYNAMIC => Work::Compress,
        compression::DECOMPRESS => Work::Decompress,
        _ => Work::Unknown,
    }
}

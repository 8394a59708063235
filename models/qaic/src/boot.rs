//! The second boot loader: it fetches the runtime firmware from the host by Sahara, sends its log,
//! and asks for the time.

use zerocopy::IntoBytes;
use zerocopy::little_endian::U16;

use crate::layout::sahara;
use crate::mhi::Mhi;

/// Channels.
pub(crate) const SAHARA_FROM_HOST: u8 = 2;
const SAHARA_TO_HOST: u8 = 3;
const LOGGING_TO_HOST: u8 = 13;
pub(crate) const TIMESYNC_FROM_HOST: u8 = 20;
const TIMESYNC_TO_HOST: u8 = 21;

/// Images that the boot loader asks for (`aic100_image_table`). Only the first must be there.
const IMAGES: [u32; 8] = [1, 2, 4, 5, 6, 8, 9, 10];
/// Bytes of an image that are read. They are taken for its header; nothing is in it for a model.
const HEADER_LEN: u32 = 64;

/// `QAIC_TIMESYNC_SIGNATURE`, and messages.
const TIMESYNC_SIGNATURE: u16 = 0x55aa;
const TIME_WANTED: u8 = 0;
const TIME: u8 = 1;
const TIME_TAKEN: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The channel is not there yet.
    Silent,
    /// A hello was sent.
    Greeted,
    /// The header of an image is awaited.
    Reading,
    /// The end of an image was told.
    Ended,
    /// All images are there.
    Done,
    /// The first image is not to be had.
    Stuck,
}

/// The boot loader, from its first message on.
#[derive(Debug)]
pub(crate) struct Loader {
    step: Step,
    /// Position in [`IMAGES`].
    image: usize,
    loaded: u64,
    missing: u64,
    /// Whether the host's time is known.
    timed: bool,
}

impl Default for Loader {
    fn default() -> Self {
        Self { step: Step::Silent, image: 0, loaded: 0, missing: 0, timed: false }
    }
}

fn packet(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn word(bytes: &[u8], index: usize) -> u32 {
    bytes
        .get(index * 4..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |it| u32::from_le_bytes(*it))
}

impl Loader {
    /// All images have been fetched: the runtime firmware can start.
    pub(crate) fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// Images that were there, and that were not.
    pub(crate) fn images(&self) -> (u64, u64) {
        (self.loaded, self.missing)
    }

    /// The host has started a channel.
    pub(crate) fn started(&mut self, mhi: &mut Mhi, channel: u8) {
        match channel {
            SAHARA_FROM_HOST | SAHARA_TO_HOST
                if self.step == Step::Silent
                    && mhi.is_running(SAHARA_FROM_HOST)
                    && mhi.is_running(SAHARA_TO_HOST) =>
            {
                self.hello(mhi);
            }
            LOGGING_TO_HOST => {
                for line in ["Understudy Cloud AI 100 model\0", "boot loader started\0"] {
                    mhi.send(LOGGING_TO_HOST, line.as_bytes().to_vec());
                }
            }
            TIMESYNC_TO_HOST => mhi.send(TIMESYNC_TO_HOST, timesync(TIME_WANTED)),
            _ => {}
        }
    }

    fn hello(&mut self, mhi: &mut Mhi) {
        // Command, length, version, oldest version, largest packet, images are pending; reserved.
        let mut words = [0; 12];
        words[..5].copy_from_slice(&[sahara::HELLO, sahara::HELLO_LEN, 2, 1, 0x1000]);
        mhi.send(SAHARA_TO_HOST, packet(&words));
        self.step = Step::Greeted;
    }

    fn ask(&mut self, mhi: &mut Mhi) {
        match IMAGES.get(self.image) {
            Some(image) => {
                let words = [sahara::READ_DATA, 0x14, *image, 0, HEADER_LEN];
                mhi.send(SAHARA_TO_HOST, packet(&words));
                self.step = Step::Reading;
            }
            None => {
                mhi.send(LOGGING_TO_HOST, b"runtime firmware starts\0".to_vec());
                self.step = Step::Done;
            }
        }
    }

    /// A message on the Sahara channel.
    pub(crate) fn sahara(&mut self, mhi: &mut Mhi, message: &[u8]) {
        match self.step {
            Step::Greeted if word(message, 0) == sahara::HELLO_RESPONSE => self.ask(mhi),
            // A reset is shorter than any header.
            Step::Reading if message.len() < 64 => {
                self.missing += 1;
                // Linux lets the image go at its end, and has nothing to say to one that failed.
                let image = IMAGES.get(self.image).copied().unwrap_or(0);
                let words = [sahara::END_OF_IMAGE, 0x10, image, sahara::STATUS_ABSENT];
                mhi.send(SAHARA_TO_HOST, packet(&words));
                if self.image == 0 {
                    mhi.send(LOGGING_TO_HOST, b"no runtime firmware\0".to_vec());
                    self.step = Step::Stuck;
                } else {
                    self.image += 1;
                    self.ask(mhi);
                }
            }
            Step::Reading => {
                let image = IMAGES.get(self.image).copied().unwrap_or(0);
                mhi.send(SAHARA_TO_HOST, packet(&[sahara::END_OF_IMAGE, 0x10, image, 0]));
                self.step = Step::Ended;
            }
            Step::Ended if word(message, 0) == sahara::DONE => {
                self.loaded += 1;
                self.image += 1;
                let complete = u32::from(self.image == IMAGES.len());
                mhi.send(SAHARA_TO_HOST, packet(&[sahara::DONE_RESPONSE, 0xc, complete]));
                self.ask(mhi);
            }
            // What was not asked for. The boot loader waits on.
            _ => mhi.tally.dropped += 1,
        }
    }

    /// A message on the time channel.
    pub(crate) fn timesync(&mut self, mhi: &mut Mhi, message: &[u8]) {
        if is_time(message) {
            self.timed = true;
            mhi.send(TIMESYNC_TO_HOST, timesync(TIME_TAKEN));
        } else {
            mhi.tally.dropped += 1;
        }
    }
}

/// `struct qts_hdr`.
fn timesync(kind: u8) -> Vec<u8> {
    let mut message = U16::new(TIMESYNC_SIGNATURE).as_bytes().to_vec();
    message.extend([0, 0, 0, kind, 0, 0]);
    message
}

/// Whether it is the host's time (`struct qts_host_time_sync_msg_data`).
pub(crate) fn is_time(message: &[u8]) -> bool {
    let signature = U16::new(TIMESYNC_SIGNATURE);
    message.len() >= 24 && message.starts_with(signature.as_bytes()) && message[5] == TIME
}

//! The virtio-crypto driver over each transport to the model.
#![cfg(test)]

mod errors;
mod liar;
mod queues;
mod random;
mod rig;
mod vectors;

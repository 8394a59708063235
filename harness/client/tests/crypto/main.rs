//! The virtio-crypto driver over each transport to the model.

mod errors;
mod queues;
mod random;
mod rig;
mod vectors;

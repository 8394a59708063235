//! Deliberate violations of specifications: mutants, to see that checks notice them.
//!
//! A mutant is a device as it is, but for one thing that it gets wrong. No model has code for it:
//!
//! - [`Change`]: what stands between a function and its surroundings, and gets registers, rings, DMA
//!   or interrupts wrong there. It is an [`Interposer`](understudy_pci::Interposer).
//! - [`Wrong`]: an identity that is changed before the function is built: capabilities, BARs, ids.
//! - [`wire`]: a man in the middle of the socket, who gets the protocol wrong.
//! - [`of_device`], [`of_server`]: the lists, most of them generated: from register tables and what
//!   probing says of each register, from what queues, opcodes and statuses are called
//!   ([`Vocabulary`](understudy_device::Vocabulary)), and from the commands of vfio-user.
//!
//! Who runs checks on mutants and counts is `understudy mutants`.
#![forbid(unsafe_code)]

mod change;
mod generate;
mod host;
mod identity;
mod place;
pub mod wire;
mod words;

pub use change::{Change, Damage, Interrupts, Mutation};
pub use generate::{of_device, of_server};
pub use identity::Wrong;
pub use place::Place;

/// A device that gets one thing wrong.
#[derive(Debug, Clone)]
pub struct Mutant {
    /// Stable name, `kind/what/where`.
    pub id: String,
    /// What it gets wrong, as a sentence.
    pub what: String,
    /// How.
    pub how: How,
}

/// A function with a change in front of its model.
pub fn inject(
    function: &mut understudy_pci::PciFunction,
    change: Change,
    words: &'static understudy_device::Vocabulary,
) {
    let resets = generate::reset_register(function, words);
    function.interpose(Some(Box::new(Mutation::new(change, words, resets))));
}

/// Where a mutant gets it wrong.
#[derive(Debug, Clone)]
pub enum How {
    /// Between the function and its surroundings.
    Function(Change),
    /// In what the function says that it is.
    Identity(Wrong),
    /// Between the server and its client.
    Wire(wire::Change),
}

impl Mutant {
    /// The kind: the first part of the id. Mutants of a kind tend to be noticed by the same checks.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.id.split('/').next().unwrap_or(&self.id)
    }
}

#[cfg(test)]
mod tests;

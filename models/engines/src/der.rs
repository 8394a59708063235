//! The few forms of DER that keys consist of.
//!
//! Not the `der` crate, which insists that integers have a sign: drivers pass through what they
//! are given, and Linux's own self-tests omit the leading zero of a modulus.

use crate::Error;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// The content of the sequence that `der` is, with nothing after it.
pub(crate) fn sequence(der: &[u8]) -> Result<&[u8], Error> {
    match element(SEQUENCE, der)? {
        (content, []) => Ok(content),
        _ => Err(Error::InvalidKey),
    }
}

/// The first `N` integers of a sequence, without leading zeros. More may follow.
pub(crate) fn integers<const N: usize>(mut content: &[u8]) -> Result<[&[u8]; N], Error> {
    let mut values = [&[][..]; N];
    for value in &mut values {
        let (bytes, rest) = element(INTEGER, content)?;
        if bytes.is_empty() {
            return Err(Error::InvalidKey);
        }
        *value = trim(bytes);
        content = rest;
    }
    Ok(values)
}

/// An `ECPrivateKey` (RFC 5915 §3): the private key's octets. The optional parts follow it and are
/// not looked at.
pub(crate) fn ec_private_key(der: &[u8]) -> Result<&[u8], Error> {
    let (version, rest) = element(INTEGER, sequence(der)?)?;
    if version != [1] {
        return Err(Error::InvalidKey);
    }
    Ok(element(OCTET_STRING, rest)?.0)
}

/// Removes leading zeros.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// Splits off an element: its content and what follows it.
fn element(tag: u8, der: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let rest = der.strip_prefix(&[tag]).ok_or(Error::InvalidKey)?;
    let (first, rest) = rest.split_first().ok_or(Error::InvalidKey)?;
    let (len, rest) = match *first {
        len @ 0..=0x7f => (usize::from(len), rest),
        // As many bytes of length; 0x80 would be BER's indefinite form.
        count @ 0x81..=0x84 => {
            let count = usize::from(count - 0x80);
            let (bytes, rest) = rest.split_at_checked(count).ok_or(Error::InvalidKey)?;
            (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
        }
        _ => return Err(Error::InvalidKey),
    };
    rest.split_at_checked(len).ok_or(Error::InvalidKey)
}

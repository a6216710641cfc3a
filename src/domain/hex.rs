//! Bytes in hexadecimal.

/// Returns the digits of bytes, two for each.
pub(crate) fn digits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    halves.map(|half| DIGITS[usize::from(half)])
}

/// Writes bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    digits(bytes).map(char::from).collect()
}
